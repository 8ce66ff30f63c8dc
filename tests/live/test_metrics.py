"""What Prometheus gets, and how."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from math import isnan
from pathlib import Path

import pytest

from pagedkv.engine import Engine
from pagedkv.errors import ConfigError
from pagedkv.live import MetricsServer
from pagedkv.live.metrics import FAMILIES, METRIC_SECTIONS, metrics_text
from pagedkv.sampling.params import SamplingParams
from tests.engine.toy import toy_engine
from tests.live.prometheus import read_metrics
from tests.live.talking import made_up

DOCS = Path(__file__).parents[2] / "docs" / "live.md"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine at an address of its own, which has served something."""
    engine, _ = toy_engine(metrics_address="127.0.0.1:0")
    engine.generate([[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 7]], SamplingParams(n=2, seed=1, ignore_eos=True))
    yield engine
    engine.close()


def fetched(engine: Engine, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    """Status, type and text of an answer."""
    request = urllib.request.Request(f"http://{engine.live.metrics_address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_are_in_the_text_format(engine: Engine) -> None:
    """To the letter, and equal to the engine's stats."""
    status, kind, text = fetched(engine)
    families, stats = read_metrics(text), engine.stats()

    def value(name: str, suffix: str = "", **labels: str) -> float:
        return families[f"pagedkv_{name}"].samples[f"pagedkv_{name}{suffix}", tuple(labels.items())]

    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert value("requests_total") == stats.num_requests == 2
    assert value("generated_tokens_total") == stats.num_generated_tokens > 0
    assert value("steps_total") == value("step_seconds", "_count") == stats.num_steps
    assert value("step_seconds", "_sum") == stats.busy_s
    assert value("time_to_first_token_seconds", quantile="0.5") == stats.ttft_p50_s
    assert value("time_to_first_token_seconds", "_count") == stats.num_first_tokens == 2
    assert value("inter_token_seconds", "_sum") == pytest.approx(stats.inter_token_sum_s)
    assert value("copied_blocks_total") == stats.counters["cow_copies"]
    assert sum(families["pagedkv_blocks"].samples.values()) == stats.num_blocks


def test_every_family_is_described() -> None:
    """In the docs, by its whole name."""
    text = DOCS.read_text()
    assert [name for name in FAMILIES if f"`pagedkv_{name}`" not in text] == []


def test_what_was_not_measured_is_no_number() -> None:
    """Quantiles of nothing are NaN, and families without samples are left out."""
    engine, _ = toy_engine()
    families = read_metrics(metrics_text(engine.snapshot(METRIC_SECTIONS)))

    assert isnan(families["pagedkv_step_seconds"].samples["pagedkv_step_seconds", (("quantile", "0.99"),)])
    assert "pagedkv_offload_bytes_total" not in families
    assert "pagedkv_device_memory_bytes" not in families


def test_tiers_and_devices_have_labels() -> None:
    """By route, by place, by device."""
    found = toy_engine()[0].snapshot(METRIC_SECTIONS)
    routes = {"page_out": 7, "page_in": 5}
    found["stats"]["offload"] = {"num_bytes": routes, "num_errors": routes, "num_stalls": 3}
    found["offload"] = {"num_host_pages": 2, "num_file_pages": 1}
    sizes = {f"{kind}_bytes": at for at, kind in enumerate(("allocated", "reserved", "free", "total"))}
    found["device_memory"] = [{"device": 1, "name": 'a "GPU"', **sizes}]
    families = read_metrics(metrics_text(found))

    assert set(FAMILIES) == {name.removeprefix("pagedkv_") for name in families}
    name = "pagedkv_offload_bytes_total"
    assert families[name].samples[name, (("route", "page_out"),)] == 7
    name = "pagedkv_device_memory_bytes"
    assert families[name].samples[name, (("device", "1"), ("kind", "total"))] == 3


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/", "GET", 404), ("/metrics/", "GET", 404), ("/metrics", "POST", 405), ("/metrics?x=1", "GET", 200)],
)
def test_there_is_nothing_else_at_the_address(engine: Engine, path: str, method: str, status: int) -> None:
    """One path, for reading."""
    assert fetched(engine, path, method)[0] == status
    assert fetched(engine, "/metrics", "HEAD")[0::2] == (200, "")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(b"hello\r\n\r\n", b"400"), (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 10_000 + b"\r\n\r\n", b"503")],
)
def test_what_is_no_request_is_refused(engine: Engine, request_bytes: bytes, status: bytes) -> None:
    """And headers are bounded."""
    host, _, port = str(engine.live.metrics_address).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request_bytes)
        assert connection.recv(1 << 16).split()[1] == status


def test_a_snapshot_that_fails_is_an_answer() -> None:
    """The engine goes on, and so does the server."""
    server = MetricsServer(":0", made_up)
    try:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{server.address}/metrics", timeout=10)
        with caught.value as error:
            assert (error.code, error.read()) == (503, b"KeyError: 'stats'\n")
    finally:
        server.close()


@pytest.mark.parametrize("address", ["", "9400", "localhost:", "localhost:x", "localhost:70000", 9400])
def test_addresses_that_are_none(address: str) -> None:
    """Are refused with what one looks like."""
    with pytest.raises(ConfigError, match=r"must be host:port, such as 127\.0\.0\.1:9400"):
        MetricsServer(address, made_up)


def test_an_address_that_is_taken(engine: Engine) -> None:
    """Is refused, and leaves no socket behind."""
    with pytest.raises(ConfigError, match="cannot be had: Address already in use"):
        MetricsServer(str(engine.live.metrics_address), made_up)


def test_an_address_is_of_this_machine_alone(engine: Engine) -> None:
    """Unless it says otherwise."""
    server = MetricsServer(":0", made_up)
    server.close()

    assert server.address.startswith("127.0.0.1:")
