"""Measuring scripts, run by hand: `python -m tests.measure.bookkeeping --help`. Pytest collects none."""
