"""Command-line options and their ini twins, read once."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Options", "add_options", "is_conformance"]

_BASELINES = "perf_baselines"
_TIMEOUT_S = 900
_REPORT = ".pagedkv-perf/report"
_DEVICES = ("cpu", "cuda")
_METERS = ("python_calls", "peak_memory", "cachegrind")


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
        const="counters",
        choices=("counters", "kernels", "timing", "all"),
        help="After the verdict, store what differs or is new, and drop baselines whose test is gone. "
        "Counters by default, those of compiled kernels among them: a time belongs to the machine that it "
        "was measured on.",
    )
    group.addoption(
        "--pagedkv-accept",
        metavar="NODEID",
        action="append",
        default=[],
        help="Store this benchmark only, and with --pagedkv-against that it is slower; needs "
        "--pagedkv-reason. May be repeated.",
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
    _add_comparing(group)
    _add_measuring(group)
    _add_conformance(parser)
    _add_ini(parser)


def _add_comparing(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--pagedkv-against",
        metavar="REF|PATH",
        help="Time every benchmark against that of a git commit (REF... is its merge base with HEAD), or of "
        "another checkout, the two taking turns (ini: pagedkv_against).",
    )
    group.addoption(
        "--pagedkv-base-python",
        metavar="PYTHON",
        help="The Python of the base's own environment, where its requirements are not those of this one.",
    )
    group.addoption(
        "--pagedkv-base-setup",
        metavar="COMMAND",
        help="Run in the base's worktree before it is timed, such as a build of extensions "
        "(ini: pagedkv_base_setup).",
    )
    group.addoption(
        "--pagedkv-selftest",
        action="store_true",
        help="Time the code against itself: are there false alarms here, and how much does it spread? "
        "Thresholds of later runs are at least three times that spread.",
    )


def _add_measuring(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--pagedkv-device",
        choices=_DEVICES,
        help="Where benchmarks of tensors run (ini: pagedkv_device, cpu).",
    )
    group.addoption(
        "--pagedkv-meters",
        metavar="LIST",
        help=f"What to measure besides time, with commas: {', '.join(_METERS)} (ini: pagedkv_meters).",
    )
    group.addoption(
        "--pagedkv-report",
        metavar="DIR",
        help="Write the report there: a page with plots, and markdown for a pull request "
        "(ini: pagedkv_report, .pagedkv-perf/report).",
    )


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
    parser.addini("pagedkv_against", "A git commit, or another checkout, to time against.", default="")
    parser.addini("pagedkv_base_setup", "Command that builds a base in its worktree.", default="")
    parser.addini("pagedkv_device", "Where benchmarks of tensors run.", default="cpu")
    parser.addini("pagedkv_meters", "What to measure besides time, separated by commas.", default="")
    parser.addini("pagedkv_report", "Folder of the report, under the root.", default=_REPORT)
    parser.addini(
        "pagedkv_duet_timeout_s", "Limit of one answer of a timing process.", default=str(_TIMEOUT_S)
    )
    parser.addini(
        "pagedkv_second_pass_timeout_s", "Limit of the second counting pass.", default=str(_TIMEOUT_S)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of one run, checked.

    Attributes:
        perf: run performance tests, and only them.
        baselines: folder of the stored baselines, absolute.
        update: what to store after the verdict: "counters", "kernels", "timing", "all", or nothing.
        accept: keys of single benchmarks to store.
        reason: why those are accepted.
        require_baseline: a benchmark without a comparable baseline fails.
        seed: seed of generated workloads.
        project_seed: the seed that the stored baselines belong to.
        suite: run the shipped performance tests too.
        traces: folder of trace files from the ini file, or "".
        second_pass_timeout_s: limit of the second counting pass.
        against: the git commit or the folder to time against, or "".
        base_python: the interpreter of the base's own environment, or "".
        base_setup: the command that builds a base, or "".
        selftest: time the code against itself.
        duet_timeout_s: limit of one answer of a timing process.
        device: "cpu" or "cuda".
        meters: what to measure besides time.
        report: folder of the report, absolute.
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
    against: str
    base_python: str
    base_setup: str
    selftest: bool
    duet_timeout_s: int
    device: str
    meters: tuple[str, ...]
    report: Path
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

        self._check_comparing()

    def _check_comparing(self) -> None:
        if self.selftest and self.against:
            raise pytest.UsageError(
                f"--pagedkv-selftest times the code against itself, --pagedkv-against={self.against} against "
                "other code: give one of the two"
            )
        if (self.selftest or self.against) and not self.perf:
            raise pytest.UsageError("--pagedkv-against and --pagedkv-selftest need --pagedkv-perf")
        if self.base_python and not self.against:
            raise pytest.UsageError("--pagedkv-base-python is for the base of --pagedkv-against: give both")

    @property
    def is_comparable(self) -> bool:
        """The workloads of this run are those that the baselines were counted on."""
        return self.seed == self.project_seed

    def stores(self, key: str, toolchain: str = "") -> bool:
        """The user asked for this benchmark's counters to be stored."""
        return self.updates_counters(toolchain) or key in self.accept

    def updates_counters(self, toolchain: str = "") -> bool:
        """The user asked for all counters of a toolchain to be stored, or for those of none."""
        return self.update in ("counters", "all") or (self.update == "kernels" and bool(toolchain))

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
            baselines=_folder(config, "pagedkv_baselines"),
            update=option.pagedkv_update,
            accept=tuple(option.pagedkv_accept),
            reason=option.pagedkv_reason,
            require_baseline=option.pagedkv_require_baseline or config.getini("pagedkv_require_baseline"),
            seed=project_seed if option.pagedkv_seed is None else option.pagedkv_seed,
            project_seed=project_seed,
            suite=config.getini("pagedkv_suite"),
            traces=config.getini("pagedkv_traces"),
            second_pass_timeout_s=_ini_int(config, "pagedkv_second_pass_timeout_s"),
            against=_against(config),
            base_python=_base_python(config),
            base_setup=str(config.getini("pagedkv_base_setup"))
            if option.pagedkv_base_setup is None
            else option.pagedkv_base_setup,
            selftest=option.pagedkv_selftest,
            duet_timeout_s=_ini_int(config, "pagedkv_duet_timeout_s"),
            device=_device(config),
            meters=_meters(config),
            report=_folder(config, "pagedkv_report"),
            adapter=option.pagedkv_adapter or config.getini("pagedkv_adapter"),
            selftest_faults=option.pagedkv_selftest_faults,
        )


def is_conformance(argument: str) -> bool:
    """A command-line argument names the conformance suites, as `--pyargs` takes it."""
    return argument.partition("::")[0].startswith("pytest_pagedkv.conformance")


def _folder(config: pytest.Config, name: str) -> Path:
    """On the command line relative to where pytest was started, in the ini file to the root."""
    given: str | None = getattr(config.option, name)
    if given is not None:
        return config.invocation_params.dir / given
    return config.rootpath / str(config.getini(name))


def _against(config: pytest.Config) -> str:
    """The ini file's value counts where performance tests run, and not in a self-test."""
    option = config.option
    given: str | None = option.pagedkv_against
    if given == "":
        raise pytest.UsageError("--pagedkv-against is empty; give a git commit such as main, or a folder")
    if (
        given is None
        and (option.pagedkv_perf or config.getini("pagedkv_perf"))
        and not option.pagedkv_selftest
    ):
        return str(config.getini("pagedkv_against"))
    return given or ""


def _base_python(config: pytest.Config) -> str:
    """As a path that holds in every folder; its symlinks are what makes a virtual environment."""
    given: str | None = config.option.pagedkv_base_python
    if not given:
        return ""
    path = config.invocation_params.dir / Path(given).expanduser()
    found = shutil.which(path) or shutil.which(given)
    if found is None:
        raise pytest.UsageError(f"--pagedkv-base-python={given}: there is no such program")
    return found


def _device(config: pytest.Config) -> str:
    device: str = config.option.pagedkv_device or config.getini("pagedkv_device")
    if device not in _DEVICES:
        raise pytest.UsageError(
            f"ini value pagedkv_device is {device!r}; it must be one of {', '.join(_DEVICES)}"
        )
    return device


def _meters(config: pytest.Config) -> tuple[str, ...]:
    given: str | None = config.option.pagedkv_meters
    names = str(config.getini("pagedkv_meters")) if given is None else given
    meters = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in meters:
        if name not in _METERS:
            raise pytest.UsageError(f"there is no meter {name!r}; there are {', '.join(_METERS)}")
    return meters


def _ini_int(config: pytest.Config, name: str) -> int:
    value = config.getini(name)
    try:
        return int(value)
    except ValueError as error:
        raise pytest.UsageError(f"ini value {name} is {value!r}; it must be an integer") from error
