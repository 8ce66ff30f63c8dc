"""Text from a run as literal text, for the places where it is shown.

What it says may come from a pull request of a stranger, and a workflow that may write posts it: no markup,
link, mention or command of theirs may come to life. `plain` has made it one printable line.
"""

import re

__all__ = ["code", "code_cell", "command_data", "command_property"]

_FENCES = re.compile("`+")


def code(text: str, most: int = 300) -> str:
    """A code span of GitHub's markdown: in it nothing but its end means anything.

    The fence is longer than every run of backticks inside.
    """
    shown = text if len(text) <= most else text[: most - 3] + "..."
    if not shown.strip():
        return ""
    fence = "`" * (1 + max(map(len, _FENCES.findall(shown)), default=0))
    room = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{room}{shown}{room}{fence}"


def code_cell(text: str) -> str:
    """The same in a table, where a pipe would end the cell."""
    return code(text).replace("|", "\\|")


def command_data(text: str) -> str:
    """The message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def command_property(text: str) -> str:
    """A property of a workflow command."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")
