"""Write the `run:` blocks of workflows and actions to files, for the linters of their languages.

python .ci/run_blocks.py FOLDER FILE...

A block of bash, or of no named shell, becomes FOLDER/<file>-<line>.sh, a block of Python .py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

_ENDINGS = {"bash": ".sh", "python": ".py"}


def blocks(node: Any) -> Iterator[tuple[int, str, str]]:
    """Line, shell and text of every step with a `run:`, wherever it stands."""
    if isinstance(node, list):
        for each in node:
            yield from blocks(each)
    elif isinstance(node, dict):
        if isinstance(node.get("run"), str):
            yield node.lc.value("run")[0] + 1, node.get("shell", "bash"), node["run"]
        for each in node.values():
            yield from blocks(each)


def main(folder: Path, paths: list[Path]) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        for line, shell, text in blocks(YAML().load(path)):
            if shell not in _ENDINGS:
                sys.exit(f"{path}:{line}: no linter for the shell {shell!r}")
            target = folder / f"{path.parent.name}-{path.stem}-{line}{_ENDINGS[shell]}"
            target.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])
