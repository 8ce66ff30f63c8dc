"""Tests of `pagedkv.replay`."""
