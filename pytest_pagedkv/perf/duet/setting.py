"""Both trees while they are there, and how a pair of processes is started on them."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_pagedkv.options import Options
from pytest_pagedkv.perf.caretaker import Caretaker
from pytest_pagedkv.perf.child import tail
from pytest_pagedkv.perf.duet.checkout import Checkout, find_base, find_head
from pytest_pagedkv.perf.duet.environment import Sides
from pytest_pagedkv.perf.duet.imports import check_modules
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
        # Cachegrind needs processes of its own.
        meters = [name for name in self.options.meters if name != "cachegrind"]
        ran = run_pair(self.start, keys, meters, progress)
        check_modules(ran.modules, self.base.top, self.head.top, self.root)
        return ran

    @property
    def root(self) -> Path:
        """Where the project is in its tree."""
        return self.config.rootpath.resolve().relative_to(self.head.top)

    def notes(self) -> list[str]:
        """What is to be said of the requirements.

        Raises:
            DuetError: this environment is not what the base needs.
        """
        if self.options.base_python or self.base.top == self.head.top:
            return []
        here, there = (demands_of(top / self.root) for top in (self.head.top, self.base.top))
        differing = there.differences(here)
        unmet = [line for line in there.unmet() if line.partition(" (")[0] in differing]
        if unmet:
            raise DuetError(
                f"{self.base.shown} asks for what this environment does not have: {'; '.join(unmet)}. Make "
                "an environment for it, and name its Python by --pagedkv-base-python"
            )
        told = f"the base asks for {', '.join(differing)}; timed with what is installed"
        return [told] if differing else []

    def set_up(self) -> None:
        """Run the command that builds the base, if there is one.

        Raises:
            DuetError: it fails.
        """
        command = self.options.base_setup
        if not command or self.base.is_given or self.base.top == self.head.top:
            return
        done = subprocess.run(  # noqa: S602 - the user's own command line
            command,
            shell=True,
            cwd=self.base.top / self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            raise DuetError(
                f"--pagedkv-base-setup={command!r} ended with {done.returncode} in the base's tree. The end "
                f"of its output:{tail(done.stdout.splitlines())}"
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
                base = stack.enter_context(
                    find_base(options.against, head, config.rootpath.resolve(), here, caretaker)
                )
            setting = Setting(
                config=config, options=options, head=head, base=base, folder=folder, caretaker=caretaker
            )
            setting.set_up()
            yield setting
