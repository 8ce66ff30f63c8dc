"""Commands that other packages bring, by their entry points."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Pagedkv

GOOD = """
def add_parser(commands):
    parser = commands.add_parser("hello", help="says hello")
    parser.add_argument("--name")
    parser.set_defaults(run=run)

def run(arguments):
    print("hello", arguments.name)
    return 7
"""

HALF = """
def add_parser(commands):
    commands.add_parser("hello", help="says hello")
    raise ValueError("late")
"""


class Packages:
    """Packages that are installed for one test, each with one command."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, name: str, module: str, text: str = "", command: str | None = None) -> None:
        """Install a package whose command, of the package's name by default, is a module of this text."""
        about = self._folder / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[pagedkv.commands]\n{command or name} = {module}\n")
        if text:
            (self._folder / f"{module}.py").write_text(text)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """A folder on the path, without packages as yet."""
    monkeypatch.syspath_prepend(tmp_path)
    return Packages(tmp_path)


def test_an_installed_command_is_one_of_ours(pagedkv: Pagedkv, packages: Packages) -> None:
    """It is in the help, takes its arguments, and its exit code is that of the process."""
    packages.install("hello", "hello_command_good", GOOD)

    found = pagedkv("hello", "--name", "you")

    assert "says hello" in pagedkv("--help").stdout
    assert found == (7, "hello you\n", "")


@pytest.mark.parametrize(
    ("module", "text", "error"),
    [
        ("hello_command_missing", "", "ModuleNotFoundError: No module named 'hello_command_missing'"),
        ("hello_command_raises", "1 / 0", "ZeroDivisionError: division by zero"),
        ("hello_command_bare", "x = 1", "AttributeError: module 'hello_command_bare' has no attribute"),
        (
            "hello_command_half",
            HALF,
            "ValueError: late",
        ),
    ],
)
def test_a_broken_command_hinders_no_other(
    pagedkv: Pagedkv, packages: Packages, module: str, text: str, error: str
) -> None:
    """The help and the others work; whoever wants the broken one is told what it is and why."""
    packages.install("hello", module, text)

    asked, help_text, other = pagedkv("hello", "--name", "x"), pagedkv("--help"), pagedkv("baselines", "-h")

    assert (asked.code, asked.stdout) == (2, "")
    assert f"pagedkv: the command 'hello' of hello ({module}) cannot be loaded: {error}" in asked.stderr
    assert "install that package again, or remove it" in asked.stderr
    assert (help_text.code, other.code) == (0, 0)
    assert "hello" in help_text.stdout
    assert "baselines" in help_text.stdout


def test_our_own_commands_cannot_be_replaced(pagedkv: Pagedkv, packages: Packages, mooncake: Path) -> None:
    """A foreign command of the same name is not looked at."""
    packages.install("foreign", "foreign_command", "raise SystemExit(99)", command="replay")

    assert pagedkv("replay", mooncake).code == 0
    assert pagedkv("--help").code == 0


def test_installed_commands_are_loaded_only_where_they_are_needed(mooncake: Path) -> None:
    """The help loads no large package, and replay no module of the plugin."""
    program = (
        "import sys; from pagedkv.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.stderr.write(' '.join(name.partition('.')[0] for name in sys.modules))"
    )

    def loaded(*arguments: str) -> set[str]:
        command = [sys.executable, "-c", program, *arguments]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stderr.split())

    assert not loaded("--help") & {"pytest", "_pytest", "numpy", "torch", "hypothesis", "rich"}
    assert "pytest_pagedkv" in loaded("--help")
    assert "pytest_pagedkv" not in loaded("replay", str(mooncake))
