"""The shipped performance tests: `pytest --pagedkv-perf` runs them beside the project's own.

Each names a path of a paged KV cache that an inference engine takes for every step or every request.
"""
