"""Attention on the CPU, in torch: what the attention kernels share.

A kernel says which query tokens read which tokens of which block table (`tasks.Segments`). They become tasks
that fit the cache of the CPU (`tasks.split`), tasks of like size become batches (`tasks.batches`), and for
each batch pages are gathered (`pages`), attended to (`softmax`), and merged into the output (`run`).
"""
