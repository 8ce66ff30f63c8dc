"""The suite for paged KV caches: oracle, random programs, bounded exhaustive programs, cost of growth."""
