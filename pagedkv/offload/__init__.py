"""Blocks below the device: pages in host memory and in a file, and what moves them."""
