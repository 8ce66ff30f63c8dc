"""The record of an engine's run, for the command that shows runs."""

from pagedkv.errors import ConfigError
from pagedkv.recording import RunRecord

__all__ = ["described", "rendered", "require_page"]


def require_page(form: str, shown: str) -> None:
    """Refuse what there is only of performance runs.

    Raises:
        ConfigError: another format than a page.
    """
    if form != "html":
        raise ConfigError(
            f"{shown} is the record of an engine's run, of which there is a page: leave --format {form} out"
        )


def rendered(record: RunRecord) -> str:
    """The page."""
    from pagedkv.recording.page import render_page

    return render_page(record)


def described(record: RunRecord) -> dict[str, object]:
    """What is on it, for machines."""
    from pagedkv.recording.page import headline

    return {
        "headline": headline(record),
        "steps": record.num_steps,
        "findings": [each.as_dict() for each in record.findings],
    }
