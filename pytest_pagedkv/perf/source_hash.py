"""A hash of what a benchmark is: its function, and what it uses of its own file.

Comments, blank lines and other tests of the file do not count, nor does what is imported: that is under test.
"""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache

import pytest

__all__ = ["source_hash", "source_of"]

_UNKNOWN = "unknown"
_DIGITS = 12


def source_of(item: pytest.Item) -> str:
    """The hash of a test's source; "unknown" where there is none, as of a test that is no Python."""
    nodes = [node for node in item.listchain() if isinstance(node, pytest.Class | pytest.Function)]
    name = getattr(nodes[0], "originalname", None) or nodes[0].name if nodes else ""
    try:
        text = item.path.read_text(encoding="utf-8")
        return source_hash(text, name)
    except (OSError, ValueError, SyntaxError):
        return _UNKNOWN


@lru_cache(maxsize=512)
def source_hash(text: str, name: str) -> str:
    """The hash of a function or class of a file, and of all definitions of the file that it uses.

    A name counts as used where it is read, is an argument, as fixtures are, or is `pytestmark`.

    Args:
        text: the file.
        name: of a function or class on its top level.

    Raises:
        SyntaxError: the file is no Python.
    """
    defined = _definitions(ast.parse(text))
    used, waiting = set[str](), [name, "pytestmark"]
    while waiting:
        each = waiting.pop()
        if each in defined and each not in used:
            used.add(each)
            waiting += (found for node in defined[each] for found in _names(node))
    if name not in used:
        return _UNKNOWN
    dump = "\n".join(ast.dump(node) for each in sorted(used) for node in defined[each])
    return hashlib.sha256(dump.encode()).hexdigest()[:_DIGITS]


def _definitions(module: ast.Module) -> Mapping[str, list[ast.stmt]]:
    """The statements on the top level by what they define, but for imports; a name may have several."""
    found: dict[str, list[ast.stmt]] = {}
    for statement in module.body:
        for name in _defined_by(statement):
            found.setdefault(name, []).append(statement)
    return found


def _defined_by(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif not isinstance(statement, ast.Import | ast.ImportFrom):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id


def _names(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.arg):
            yield each.arg
