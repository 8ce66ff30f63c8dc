"""Both trees while they are there, and how a pair of processes is started on them."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.duet.caretaker import Caretaker
from pytest_pagedkv.perf.duet.checkout import Checkout, find_base, find_head
from pytest_pagedkv.perf.duet.environment import Sides
from pytest_pagedkv.perf.duet.process import DuetError, TimingProcess
from pytest_pagedkv.perf.duet.progress import Progress
from pytest_pagedkv.perf.duet.requirements import demands_of
from pytest_pagedkv.perf.duet.rounds import PairRun, run_pair

__all__ = ["Setting", "open_setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Both trees, while they are there."""

    config: pytest.Config
    options: Options
    head: Checkout
    base: Checkout
    folder: Path
    caretaker: Caretaker

    def start(self, stack: ExitStack, hash_seed: str) -> tuple[TimingProcess, TimingProcess]:
        """A fresh pair of processes, base and head."""
        sides = Sides(self.config, self.head, self.base, self.options.base_python, self.folder)
        base, head = (
            stack.enter_context(
                TimingProcess(
                    command,
                    self.folder / f"{command.side}.txt",
                    self.caretaker,
                    self.options.duet_timeout_s,
                )
            )
            for command in sides.commands(hash_seed)
        )
        return base, head

    def pair(self, keys: Sequence[str], progress: Progress) -> PairRun:
        """All rounds of one pair of processes."""
        meters = [
            name for name in self.options.meters if name != "cachegrind"
        ]  # which needs its own processes
        ran = run_pair(self.start, (str(self.base.top), str(self.head.top)), keys, meters, progress)
        self._check_modules(ran.modules)
        return ran

    def notes(self) -> list[str]:
        """What is to be said of the requirements.

        Raises:
            DuetError: this environment is not what the base needs.
        """
        root = self.config.rootpath
        if (
            self.options.base_python
            or self.base.top == self.head.top
            or not root.is_relative_to(self.head.top)
        ):
            return []
        here, there = (
            demands_of(top / root.relative_to(self.head.top)) for top in (self.head.top, self.base.top)
        )
        differing = there.differences(here)
        unmet = [line for line in there.unmet() if line.partition(" (")[0] in differing]
        if unmet:
            raise DuetError(
                f"{self.base.shown} asks for what this environment does not have: {'; '.join(unmet)}. Make "
                "an environment for it, and name its Python by --pagedkv-base-python"
            )
        return (
            [f"the base asks for {', '.join(differing)}; timed with what is installed"] if differing else []
        )

    def _check_modules(self, modules: Mapping[str, Mapping[str, str]]) -> None:
        """Each side has to import its own tree."""
        if self.base.top == self.head.top:
            return
        for side, top in (("base", self.base.top), ("head", self.head.top)):
            for name, file in modules[side].items():
                if not Path(file).is_relative_to(top.resolve()):
                    raise DuetError(
                        f"the {side} imports {name} from {file}, and not from its own tree, so that the same "
                        "code would be compared with itself; install the project as editable (`pip install "
                        "-e .`), or let tests find it by pytest's ini value pythonpath"
                    )


@contextmanager
def open_setting(config: pytest.Config, options: Options) -> Iterator[Setting]:
    """Find both trees; what was made for it is removed at the end of the context.

    Raises:
        DuetError: there is no such base.
    """
    with Caretaker() as caretaker:
        folder = Path(tempfile.mkdtemp(prefix="pagedkv-"))
        caretaker.watch_folder(folder)
        head = find_head(config.rootpath)
        with ExitStack() as stack:
            base = head
            if not options.selftest:
                here = config.invocation_params.dir
                base = stack.enter_context(find_base(options.against, head, here, caretaker))
            yield Setting(
                config=config, options=options, head=head, base=base, folder=folder, caretaker=caretaker
            )
