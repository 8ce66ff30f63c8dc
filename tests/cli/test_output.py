"""What commands print with."""

import pytest

from pagedkv.cli.output import print_table


def test_a_row_is_a_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A name and its value stay on one line, however narrow the terminal is."""
    monkeypatch.setenv("COLUMNS", "40")
    name = "time to first token (ms): p50 / p90 / p99"
    print_table("a title", [(name, "1,290,478.8 / 2,115,782.1"), ("steps", "7")])

    title, first, second = capsys.readouterr().out.splitlines()
    assert title == "a title"
    assert first == f"{name}   1,290,478.8 / 2,115,782.1"
    assert second.split() == ["steps", "7"]
