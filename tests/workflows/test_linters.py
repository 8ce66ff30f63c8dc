"""The linters of .ci/lint_workflows find what is planted, each in its field."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.workflows.files import GITHUB, ROOT

_TOOLS = ("check-jsonschema", "zizmor", "shellcheck", "ruff", "node", "npm")
_LACKING = [tool for tool in _TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(_LACKING), reason=f"not on PATH: {', '.join(_LACKING)}")


class Fault(NamedTuple):
    """What to replace by what in which file, and a part of the line that reports it."""

    path: str
    right: str
    wrong: str
    finding: str


_CHECKOUT = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2"
_SHAPE = [
    Fault(
        "actions/pagedkv-perf/action.yml",
        "    default: python\n",
        "    defautl: python\n",
        "'defautl' was unexpected",
    ),
    Fault("dependabot.yml", "default-days", "days", "'days' was unexpected"),
    Fault(
        "workflows/perf.yml", "timeout-minutes: 45", "timeout_minutes: 45", "'timeout_minutes' was unexpected"
    ),
    Fault("workflows/nightly.yml", "needs: timings", "needs: timing", '"timing"'),
    Fault(
        "workflows/gpu.yml", "head (${{ matrix.gpu }})", "head (${{ matrix.gpus }})", '"gpus" is not defined'
    ),
    Fault(
        "workflows/gpu.yml",
        "github.event.label.name == 'gpu' }}",
        "githab.ref }}",
        'undefined variable "githab"',
    ),
    Fault("workflows/gpu-label.yml", ".name, 'gpu') }}", ".name, 'gpu' }}", "[expression]"),
]
_SECURITY = [
    Fault("workflows/ci.yml", _CHECKOUT, "actions/checkout@v6", "unpinned-uses"),
    Fault("workflows/release.yml", "persist-credentials: false", "fetch-depth: 1", "artipacked"),
    Fault("workflows/ci.yml", "run: .ci/run", "run: .ci/run ${{ github.head_ref }}", "template-injection"),
    Fault("workflows/gpu.yml", "permissions: {}", "permissions: write-all", "excessive-permissions"),
    Fault("workflows/perf.yml", "  pull_request:\n", "  pull_request_target:\n", "dangerous-triggers"),
    Fault("workflows/release.yml", '"$GITHUB_REF_NAME" dist >', "$GITHUB_REF_NAME dist >", "SC2086"),
    Fault("workflows/perf-comment.yml", "          import io\n", "", "F821"),
    Fault("actions/pagedkv-perf/install.sh", '"$GATE_INSTALL"', "$GATE_INSTALL", "SC2086"),
    Fault("dependabot.yml", "    cooldown:\n      default-days: 7\n", "", "dependabot-cooldown"),
]


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / ".ci/lint_workflows"), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def _with_faults(folder: Path, faults: list[Fault]) -> Path:
    copy = shutil.copytree(GITHUB, folder / ".github")
    for fault in faults:
        path = copy / fault.path
        text = path.read_text(encoding="utf-8")
        assert fault.right in text, "the fault has no place to be planted in"
        path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    return copy


def test_nothing_is_found_in_ours() -> None:
    """All of them are content."""
    done = _lint(GITHUB)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("faults", [_SHAPE, _SECURITY], ids=["shape", "security"])
def test_faults_are_found(faults: list[Fault], tmp_path: Path) -> None:
    """Each planted fault is reported, and the step fails."""
    done = _lint(_with_faults(tmp_path, faults))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert [fault for fault in faults if fault.finding not in said] == []
