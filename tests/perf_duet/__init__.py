"""The parts of the comparison of two commits, one by one."""
