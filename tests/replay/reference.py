"""The definitions of the replay modes once more, as plainly as they can be written."""

from collections import OrderedDict, deque
from collections.abc import Sequence

from hypothesis import strategies as st

from pagedkv.traces import Trace, TraceRequest

__all__ = ["fcfs", "fork", "sequential", "trace_of", "traces"]


def trace_of(block_size: int | None, *rows: Sequence[object]) -> Trace:
    """A trace of rows (arrival, prompt tokens, output tokens, block ids)."""
    requests = tuple(TraceRequest(i, i + 1, *row) for i, row in enumerate(rows))  # type: ignore[arg-type]
    return Trace("rows", "mooncake", block_size, requests)


@st.composite
def traces(draw: st.DrawFn, max_requests: int = 12) -> Trace:
    """Small traces; ids are reused across requests arbitrarily, chained or not."""
    block_size = draw(st.integers(1, 4))
    rows = []
    for _ in range(draw(st.integers(1, max_requests))):
        prompt, output = draw(st.integers(0, 6 * block_size)), draw(st.integers(0, 2 * block_size))
        num_ids = -(-prompt // block_size)
        chained = draw(st.booleans())
        start = draw(st.integers(0, 2))
        anything = st.lists(st.integers(0, 15), min_size=num_ids, max_size=num_ids, unique=True)
        ids = [100 * start + i for i in range(num_ids)] if chained else draw(anything)
        rows.append((draw(st.integers(0, 60)), prompt, output, draw(st.sampled_from([ids, ids, ids, None]))))
    return trace_of(block_size, *rows)


def sequential(trace: Trace, num_blocks: int) -> dict[str, int]:
    """`--mode sequential`, block by block."""
    size = trace.block_size or 0
    free = OrderedDict.fromkeys(range(num_blocks))
    block_of: dict[int, int] = {}
    id_of: dict[int, int] = {}
    found = dict.fromkeys(
        ("requests", "rejected", "prompt_blocks", "lookup_blocks", "hit_blocks", "full_prefix_hits"), 0
    ) | dict.fromkeys(("evictions", "blocks_allocated", "cached_end"), 0)
    for request in trace.requests:
        prompt, ids = request.num_prompt_tokens, list(request.block_ids or [])
        n = -(-(prompt + request.num_output_tokens) // size)
        found["requests"] += 1
        found["prompt_blocks"] += len(ids)
        if n > num_blocks:
            found["rejected"] += 1
            continue
        eligible = ids[: max(0, min(prompt // size, (prompt - 1) // size))]
        found["lookup_blocks"] += len(eligible)
        table = []
        for block_id in eligible:
            if block_id not in block_of:
                break
            table.append(block_of[block_id])
        k = len(table)
        for block in table:
            del free[block]
        while len(table) < n:
            block, _ = free.popitem(last=False)
            if block in id_of:
                del block_of[id_of.pop(block)]
                found["evictions"] += 1
            table.append(block)
        for block_id, block in list(zip(ids, table, strict=False))[k : prompt // size]:
            if block_id not in block_of:
                block_of[block_id] = block
                id_of[block] = block_id
        for block in reversed(table):
            free[block] = None
        found["hit_blocks"] += k
        found["full_prefix_hits"] += k == (prompt - 1) // size > 0
        found["blocks_allocated"] += n - k
    return found | {"cached_end": len(block_of)}


def fork(trace: Trace, num_samples: int, num_blocks: int, block_size: int) -> dict[str, int]:
    """`--fork`, by the formula."""
    without = shared = copies = rejected = 0
    for request in trace.requests:
        prompt, output = request.num_prompt_tokens, request.num_output_tokens
        n, full = -(-(prompt + output) // block_size), prompt // block_size
        need = full + num_samples * (n - full)
        if prompt and need > num_blocks:
            rejected += 1
        elif prompt:
            without += num_samples * n
            shared += need
            copies += num_samples - 1 if prompt % block_size and output else 0
    return {
        "blocks_without_sharing": without,
        "blocks_with_sharing": shared,
        "cow_copies": copies,
        "rejected": rejected,
    }


def fcfs(trace: Trace, num_blocks: int, block_size: int) -> dict[str, int]:
    """`--mode fcfs`, millisecond by millisecond."""
    arriving = deque(sorted(trace.requests, key=lambda r: r.arrival_ms or 0))
    queue: deque[TraceRequest] = deque()
    running: list[tuple[int, int]] = []
    found = dict.fromkeys(
        ("max_queue", "total_wait_ms", "makespan_ms", "peak_requests", "peak_blocks", "rejected"), 0
    )
    now = 0
    while arriving or queue or running:
        if any(end == now for end, _ in running):
            found["makespan_ms"] = now
        running = [(end, n) for end, n in running if end != now]
        while arriving and arriving[0].arrival_ms == now:
            request = arriving.popleft()
            if request.num_blocks(block_size) > num_blocks:
                found["rejected"] += 1
            else:
                queue.append(request)
        instant = False
        while queue and sum(n for _, n in running) + queue[0].num_blocks(block_size) <= num_blocks:
            request = queue.popleft()
            duration = -(-request.num_prompt_tokens // 8) + 25 * request.num_output_tokens
            running.append((now + duration, request.num_blocks(block_size)))
            found["total_wait_ms"] += now - (request.arrival_ms or 0)
            instant = instant or duration == 0
        found["max_queue"] = max(found["max_queue"], len(queue))
        found["peak_requests"] = max(found["peak_requests"], len(running))
        found["peak_blocks"] = max(found["peak_blocks"], sum(n for _, n in running))
        now += not instant
    return found
