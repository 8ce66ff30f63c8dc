"""Tests of `pagedkv.traces`."""
