"""pagedkv's own log lines."""

import logging

import pytest

from pagedkv import events as ev
from pagedkv.logs import OffloadLog, SchedulerLog
from pagedkv.pitfalls.finding import Pitfall, Severity
from tests.doctor.conftest import Doctor

PREFIX = "2026-05-24 03:51:44,123 DEBUG pagedkv: "
PITFALLS = {
    Pitfall.FRAGMENTATION: ["[Allocator] Free blocks: 12 / 3072", *["[Allocator] Fragmentation: 0.55"] * 10],
    Pitfall.COW_EXPLOSION: ["[KV] Copy-on-write: 64 copies this step"] * 32,
    Pitfall.BATCH_COLLAPSE: ["[Scheduler] Batch size reduced: 64 → 8", "[Scheduler] Batch collapse detected"],
    Pitfall.OFFLOAD_THRASH: ["[Offload] Page-in latency > 20ms", "[Offload] Page-in stall"] * 5,
    Pitfall.LATENCY_SPIKE: ["[Engine] Step 143 took 112.0 ms (p50 9.1 ms)", "[GPU Stream Sync] wait_event"]
    * 3,
}


@pytest.mark.parametrize("prefix", ["", PREFIX, "\x1b[33mWARN\x1b[0m "], ids=["bare", "handler", "colours"])
@pytest.mark.parametrize("pitfall", PITFALLS)
def test_each_pitfall_is_found(doctor: Doctor, pitfall: Pitfall, prefix: str) -> None:
    """The lines of a pitfall give its finding and no other, whatever a handler puts before them."""
    found = doctor("".join(f"{prefix}{line}\n" for line in PITFALLS[pitfall]))

    assert [each.pitfall for each in found.findings] == [pitfall]
    assert (found.exit_code, found.files[0].num_odd) == (1, 0)
    assert found.files[0].num_understood == len(PITFALLS[pitfall])


def test_fragmentation_of_a_pool_with_room_costs_nothing(doctor: Doctor) -> None:
    """The same readings say nothing while blocks are free; neither does the warning by itself."""
    lines = ["[Allocator] Free blocks: 2000 / 3072", *["[Allocator] Fragmentation: 0.55"] * 50]

    assert not doctor("\n".join(lines)).findings
    assert not doctor("[Allocator] Fragmentation > 0.4\n" * 5).findings


def test_the_warning_counts_where_requests_lose_their_blocks(doctor: Doctor) -> None:
    """Without debug lines, fragmentation is told if something else shows that the pool is short."""
    found = doctor("[Allocator] Fragmentation > 0.4\n[Scheduler] Batch collapse detected\n")

    assert {each.pitfall for each in found.findings} == {Pitfall.FRAGMENTATION, Pitfall.BATCH_COLLAPSE}


def test_copies_are_held_against_tokens(doctor: Doctor) -> None:
    """Where the log says how many tokens were generated, few copies for each are no finding."""
    copies = "[KV] Copy-on-write: 64 copies this step\n" * 40
    ends = "[Scheduler] Request 1 ends (stop) after 9.0 ms: {} tokens generated\n"

    assert not doctor(copies + ends.format(1_000_000)).findings
    assert doctor(copies + ends.format(4000)).findings[0].severity is Severity.CRITICAL


def test_what_is_logged_is_understood(doctor: Doctor, caplog: pytest.LogCaptureFixture) -> None:
    """The lines are those that `pagedkv.logs` writes now."""
    caplog.set_level(logging.DEBUG, "pagedkv")
    scheduler, offload = SchedulerLog(), OffloadLog()
    for number in range(12):
        scheduler(
            ev.RequestPreempted(
                request_id=number,
                needed_by=None,
                reason="no blocks",
                num_free_before=0,
                num_free_after=9,
                num_lost_tokens=100,
            )
        )
        offload(
            ev.PageInEnded(num_pages=4, num_failed=0, latency_ns=90_000_000, expected_ns=1_000, unseen_ns=0)
        )

    found = doctor("\n".join(caplog.messages))

    by_pitfall = {each.pitfall: each.evidence for each in found.findings}
    assert by_pitfall[Pitfall.BATCH_COLLAPSE]["lost_tokens"] == 1200
    assert by_pitfall[Pitfall.OFFLOAD_THRASH]["stall_ratio"] == 1.0
    assert found.files[0].num_odd == 0
