"""Sampling: parameters, random numbers, distributions, beams, texts."""
