"""Print the section of a release in CHANGELOG.md, after checking that what was built is that release.

python .ci/release_notes.py v1.2.3 dist
"""

import re
import sys
from pathlib import Path

_CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"


def check(version: str, folder: Path) -> None:
    """The folder holds one wheel and one source distribution of this version, and nothing else.

    Raises:
        ValueError: it does not.
    """
    names = sorted(path.name for path in folder.iterdir())
    expected = [f"pagedkv-{version}-py3-none-any.whl", f"pagedkv-{version}.tar.gz"]
    if names != expected:
        raise ValueError(f"{folder} holds {', '.join(names) or 'nothing'}; expected {' and '.join(expected)}")


def section(version: str, changelog: str) -> str:
    """The text between the heading of this version, with or without brackets and date, and the next one.

    Raises:
        ValueError: there is no such section, or it is empty.
    """
    heading = rf"^## \[?{re.escape(version)}\]?(?: [^\n]*)?\n"
    found = re.search(rf"{heading}(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError(f"CHANGELOG.md says nothing under a heading '## {version}'")
    return found[1].strip() + "\n"


def main(tag: str, folder: str) -> None:
    """Write the notes to standard output."""
    version = tag.removeprefix("v")
    check(version, Path(folder))
    sys.stdout.write(section(version, _CHANGELOG.read_text(encoding="utf-8")))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
