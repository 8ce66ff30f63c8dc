"""Command-line options and their ini twins, read once."""

from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Options", "add_options", "is_conformance"]

_BASELINES = "perf_baselines"
_TIMEOUT_S = 900


def add_options(parser: pytest.Parser) -> None:
    """Declare every option. Those that write files have no ini twin: a write is never implicit."""
    group = parser.getgroup("pagedkv", "performance gate (pagedkv)")
    group.addoption(
        "--pagedkv-perf",
        action="store_true",
        help="Run the performance tests, and only them (ini: pagedkv_perf).",
    )
    group.addoption(
        "--pagedkv-baselines",
        metavar="DIR",
        help=f"Folder of stored baselines (ini: pagedkv_baselines, {_BASELINES}).",
    )
    group.addoption(
        "--pagedkv-update",
        nargs="?",
        const="all",
        choices=("counters", "all"),
        help="After the verdict, store what differs or is new, and drop baselines whose test is gone. "
        "Only counters are stored yet, so that counters and all are the same.",
    )
    group.addoption(
        "--pagedkv-accept",
        metavar="NODEID",
        action="append",
        default=[],
        help="Store the counters of this benchmark only; needs --pagedkv-reason. May be repeated.",
    )
    group.addoption(
        "--pagedkv-reason", metavar="TEXT", help="Why they are accepted; kept in the baseline file."
    )
    group.addoption(
        "--pagedkv-require-baseline",
        action="store_true",
        help="A benchmark without a comparable baseline fails (ini: pagedkv_require_baseline).",
    )
    group.addoption(
        "--pagedkv-seed", type=int, metavar="N", help="Seed of generated workloads (ini: pagedkv_seed, 0)."
    )
    _add_conformance(parser)
    _add_ini(parser)


def _add_conformance(parser: pytest.Parser) -> None:
    group = parser.getgroup("pagedkv-conformance", "conformance suites (pagedkv)")
    group.addoption(
        "--pagedkv-adapter",
        metavar="MODULE:CLASS",
        help="The adapter that `--pyargs pytest_pagedkv.conformance` tests (ini: pagedkv_adapter).",
    )
    group.addoption(
        "--pagedkv-selftest-faults",
        action="store_true",
        help="Test the suite itself: plant faults in a correct cache, and see each of them found.",
    )


def _add_ini(parser: pytest.Parser) -> None:
    parser.addini("pagedkv_adapter", "The adapter that conformance suites test, module:Class.", default="")
    parser.addini("pagedkv_perf", "Run the performance tests, and only them.", type="bool", default=False)
    parser.addini("pagedkv_baselines", "Folder of stored baselines, under the root.", default=_BASELINES)
    parser.addini("pagedkv_require_baseline", "A missing baseline is a failure.", type="bool", default=False)
    parser.addini("pagedkv_seed", "Seed of generated workloads; baselines belong to it.", default="0")
    parser.addini("pagedkv_suite", "Run the shipped performance tests too.", type="bool", default=True)
    parser.addini("pagedkv_traces", "Folder of trace files; PAGEDKV_TRACES comes first.", default="")
    parser.addini(
        "pagedkv_second_pass_timeout_s", "Limit of the second counting pass.", default=str(_TIMEOUT_S)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one run, checked.

    Attributes:
        perf: run performance tests, and only them.
        baselines: folder of the stored baselines, absolute.
        update: what to store after the verdict: "counters" or "all", which are the same as yet, or
            nothing.
        accept: keys of single benchmarks to store.
        reason: why those are accepted.
        require_baseline: a benchmark without a comparable baseline fails.
        seed: seed of generated workloads.
        project_seed: the seed that the stored baselines belong to.
        suite: run the shipped performance tests too.
        traces: folder of trace files from the ini file, or "".
        second_pass_timeout_s: limit of the second counting pass.
        adapter: the adapter that conformance suites test, as module:Class, or "".
        selftest_faults: test the conformance suite itself.
    """

    perf: bool
    baselines: Path
    update: str | None
    accept: tuple[str, ...]
    reason: str | None
    require_baseline: bool
    seed: int
    project_seed: int
    suite: bool
    traces: str
    second_pass_timeout_s: int
    adapter: str
    selftest_faults: bool

    def __post_init__(self) -> None:
        if bool(self.accept) != (self.reason is not None):
            raise pytest.UsageError(
                "--pagedkv-accept=NODEID and --pagedkv-reason=TEXT go together: give both"
            )
        if self.reason is not None and not self.reason.strip():
            raise pytest.UsageError("--pagedkv-reason is empty; say in a few words why the change is right")
        if (self.update or self.accept) and not self.perf:
            raise pytest.UsageError("--pagedkv-update and --pagedkv-accept need --pagedkv-perf")
        if (self.update or self.accept) and not self.is_comparable:
            raise pytest.UsageError(
                f"baselines belong to the project's seed {self.project_seed}, so a run with "
                f"--pagedkv-seed={self.seed} cannot store any; drop one of the two options"
            )

    @property
    def is_comparable(self) -> bool:
        """The workloads of this run are those that the baselines were counted on."""
        return self.seed == self.project_seed

    def stores(self, key: str) -> bool:
        """The user asked for this benchmark's counters to be stored."""
        return self.update is not None or key in self.accept

    @classmethod
    def from_config(cls, config: pytest.Config) -> "Options":
        """Read options and ini values.

        Raises:
            pytest.UsageError: a value, or a combination, that cannot work.
        """
        option = config.option
        project_seed = _ini_int(config, "pagedkv_seed")
        return cls(
            perf=option.pagedkv_perf or config.getini("pagedkv_perf"),
            baselines=_baselines(config),
            update=option.pagedkv_update,
            accept=tuple(option.pagedkv_accept),
            reason=option.pagedkv_reason,
            require_baseline=option.pagedkv_require_baseline or config.getini("pagedkv_require_baseline"),
            seed=project_seed if option.pagedkv_seed is None else option.pagedkv_seed,
            project_seed=project_seed,
            suite=config.getini("pagedkv_suite"),
            traces=config.getini("pagedkv_traces"),
            second_pass_timeout_s=_ini_int(config, "pagedkv_second_pass_timeout_s"),
            adapter=option.pagedkv_adapter or config.getini("pagedkv_adapter"),
            selftest_faults=option.pagedkv_selftest_faults,
        )


def is_conformance(argument: str) -> bool:
    """A command-line argument names the conformance suites, as `--pyargs` takes it."""
    return argument.partition("::")[0].startswith("pytest_pagedkv.conformance")


def _baselines(config: pytest.Config) -> Path:
    """On the command line relative to where pytest was started, in the ini file to the root."""
    given: str | None = config.option.pagedkv_baselines
    if given is not None:
        return config.invocation_params.dir / given
    return config.rootpath / str(config.getini("pagedkv_baselines"))


def _ini_int(config: pytest.Config, name: str) -> int:
    value = config.getini(name)
    try:
        return int(value)
    except ValueError as error:
        raise pytest.UsageError(f"ini value {name} is {value!r}; it must be an integer") from error
