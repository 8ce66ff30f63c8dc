"""A pytest plugin that keeps a paged KV cache fast: exact counters, timings, stored baselines."""
