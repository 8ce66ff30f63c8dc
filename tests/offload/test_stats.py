"""Events of the tiers, folded into numbers."""

from pagedkv.events import (
    OffloadThrottled,
    PageInEnded,
    PageInStarted,
    PagesDropped,
    PagesMoved,
    PagesStored,
    RequestAwaitedPages,
    TokensAppended,
)
from pagedkv.offload.stats import OffloadFold

MS = 1_000_000


def test_every_event_is_counted() -> None:
    """A page goes out, down, up and in; others fail, stall, and are late."""
    fold = OffloadFold()
    for event in (
        PagesStored(num_pages=3, num_refused=1, num_copied=2, num_bytes=2048),
        PagesMoved("spill", 1, 1024, 5),
        PagesMoved("fetch", 1, 1024, 5),
        PagesMoved("fetch", 1, 1024, 5, error="no such device"),
        PagesMoved("page_in", 2, 2048, 5),
        PagesDropped(2, "room"),
        PageInStarted(num_pages=4, num_from_file=2, num_again=1, is_ahead=True),
        PageInStarted(num_pages=1, num_from_file=0, num_again=0, is_ahead=False),
        PageInEnded(num_pages=4, num_failed=1, latency_ns=9 * MS, expected_ns=2 * MS),
        PageInEnded(num_pages=1, num_failed=0, latency_ns=8 * MS, expected_ns=2 * MS),
        RequestAwaitedPages("a", 4, 0),
        RequestAwaitedPages("b", 1, 7 * MS),
        RequestAwaitedPages("c", 2, 0, gave_up=True),
        OffloadThrottled("spill", 32),
        TokensAppended(1, 1, 0),
    ):
        fold(event)
    stats = fold.as_stats()
    assert (stats.num_page_outs, stats.num_copied, stats.num_refused) == (3, 2, 1)
    assert (stats.num_page_ins, stats.num_failed, stats.num_dropped) == (4, 1, 2)
    assert (stats.num_from_file, stats.num_prefetched, stats.num_again) == (2, 4, 1)
    assert (stats.num_in_time, stats.num_late, stats.num_gave_up) == (4, 3, 2)
    assert (stats.num_stalls, stats.num_throttled) == (1, 1)
    assert (stats.awaited_ns, stats.max_page_in_ns) == (7 * MS, 9 * MS)
    assert stats.num_bytes == {"page_out": 2048, "page_in": 2048, "spill": 1024, "fetch": 1024}
    assert stats.num_errors == {"page_out": 0, "page_in": 0, "spill": 0, "fetch": 1}
