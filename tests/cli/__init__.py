"""Tests of `pagedkv.cli`."""
