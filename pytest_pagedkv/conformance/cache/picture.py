"""The pool as text: blocks, owners, reference counts, contents."""

from collections.abc import Mapping

from pytest_pagedkv.adapter import KVCacheAdapter
from pytest_pagedkv.conformance.cache.ledger import Ledger
from pytest_pagedkv.conformance.cache.shadow import Cell

__all__ = ["picture"]

_MOST = 32


def picture(ledger: Ledger, adapter: KVCacheAdapter) -> str:
    """A map of the pool: a line for each block that is held, and for a few that are not.

    Args:
        ledger: what the sequences hold, and what is in it.
        adapter: the cache, which is asked for reference counts if it has them.
    """
    counts = _ref_counts(adapter)
    shown = sorted(range(adapter.num_blocks), key=lambda block: block not in ledger.holders)[:_MOST]
    rows = [("block", "held by seq[entry]", "refs", "slots: seq:position that wrote it")]
    for block in sorted(shown):
        held = " ".join(f"{seq_id}[{entry}]" for seq_id, entry in ledger.holders.get(block, {}).items())
        cells = " ".join(map(_written, ledger.shadow.slots(block)))
        rows.append((str(block), held or "-", "" if counts is None else str(counts.get(block, 0)), cells))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{row[0]:>{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip()
        for row in rows
    ]
    if adapter.num_blocks > _MOST:
        lines.append(f"... and {adapter.num_blocks - _MOST} more")
    return "\n".join(lines)


def _ref_counts(adapter: KVCacheAdapter) -> Mapping[int, int] | None:
    try:
        return dict(adapter.ref_counts())
    except Exception:  # noqa: BLE001 - the cache is broken, or has none; the picture does without
        return None


def _written(cell: Cell | None) -> str:
    return "." if cell is None else f"{cell.seq_id}:{cell.position}"
