"""The checks of block_copy, block_gather and block_scatter."""

from collections.abc import Sequence

import numpy as np
import torch

from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter
from pytest_pagedkv.conformance.kernels.buffers import (
    Guarded,
    as_bytes,
    check_inputs,
    check_zones,
    dtype_named,
    guarded_integers,
)
from pytest_pagedkv.conformance.kernels.calling import call, explained
from pytest_pagedkv.conformance.kernels.cases import CopyCase, StagingCase
from pytest_pagedkv.conformance.kernels.problem import filled_layers
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["check_block_copy", "check_block_staging"]


def _wrong_blocks(found: torch.Tensor, expected: torch.Tensor) -> list[int]:
    """Blocks, by the first axis, whose bytes differ."""
    differs = (as_bytes(found) != as_bytes(expected)).flatten(1).any(1)
    return [int(block) for block in differs.nonzero().flatten()]


def _named(layers: Sequence[Guarded]) -> dict[str, Guarded]:
    return {f"kv of layer {index}": layer for index, layer in enumerate(layers)}


def check_block_copy(adapter: KernelAdapter, case: CopyCase) -> None:
    """Copy blocks in all layers, and compare the whole pools.

    Raises:
        InvariantViolation: something does not hold.
    """
    with explained(check_block_copy, adapter, case):
        rng = np.random.default_rng(case.seed)
        layers = filled_layers(case.pool, case.num_layers, rng, adapter.device)
        copies = guarded_integers(case.copies, torch.int64, adapter.device)
        expected = [as_bytes(layer.tensor).clone() for layer in layers]
        for blocks in expected:
            for source, destination in case.copies:
                blocks[destination] = blocks[source]
        call(adapter, "block_copy", [layer.tensor for layer in layers], copies.tensor)
        check_zones({"copies": copies, **_named(layers)})
        check_inputs({"copies": copies})
        _check_copied(case.copies, layers, expected)


def _check_copied(
    copies: Sequence[tuple[int, int]], layers: Sequence[Guarded], expected: Sequence[torch.Tensor]
) -> None:
    """Compare pools; a copy that is not there comes before a block that should have been left alone."""
    destinations = {destination for _, destination in copies}
    wrong = [_wrong_blocks(layer.tensor, right) for layer, right in zip(layers, expected, strict=True)]
    right = [index for index, blocks in enumerate(wrong) if not blocks]
    for index, blocks in enumerate(wrong):
        for block in sorted(blocks, key=lambda block: block not in destinations):
            _report_copy(copies, block, f"in layer {index} (layers that are right: {right})")


def _report_copy(copies: Sequence[tuple[int, int]], block: int, where: str) -> None:
    sources = [source for source, destination in copies if destination == block]
    if not sources:
        raise InvariantViolation("no-stray-write", f"block {block} has changed {where}; no copy goes there")
    destinations = {destination for _, destination in copies}
    if len(sources) > 1 or any(source in destinations for source, _ in copies):
        raise InvariantViolation(
            "copy-order", f"block {block} is not what one copy after another makes of it {where}"
        )
    raise InvariantViolation("copy-exact", f"block {block} has not the bytes of block {sources[0]} {where}")


def check_block_staging(adapter: KernelAdapter, case: StagingCase) -> None:
    """Gather blocks, scatter them into other pools, and compare.

    Raises:
        InvariantViolation: something does not hold.
    """
    with explained(check_block_staging, adapter, case):
        rng, device = np.random.default_rng(case.seed), adapter.device
        sources, targets = (filled_layers(case.pool, case.num_layers, rng, device) for _ in range(2))
        ids = guarded_integers(case.block_ids, torch.int64, device)
        shape = (len(case.block_ids), case.num_layers, *sources[0].tensor.shape[1:])
        staging = Guarded(shape, dtype_named(case.pool.dtype), device)
        _check_gather(adapter, sources, ids, staging)
        _check_scatter(adapter, staging, targets, ids)


def _check_gather(adapter: KernelAdapter, layers: Sequence[Guarded], ids: Guarded, staging: Guarded) -> None:
    chosen = ids.tensor.tolist()
    expected = torch.stack([as_bytes(layer.tensor)[chosen] for layer in layers], 1)
    staging.expect_writes()
    call(adapter, "block_gather", [layer.tensor for layer in layers], ids.tensor, staging.tensor)
    check_zones({"staging": staging, "block_ids": ids, **_named(layers)})
    check_inputs({"block_ids": ids, **_named(layers)})
    for place in _wrong_blocks(as_bytes(staging.tensor), expected):
        raise InvariantViolation(
            "staging-exact", f"place {place} of staging has not the bytes of block {chosen[place]}"
        )


def _check_scatter(adapter: KernelAdapter, staging: Guarded, layers: Sequence[Guarded], ids: Guarded) -> None:
    chosen = ids.tensor.tolist()
    staging.keep()
    expected = [as_bytes(layer.tensor).clone() for layer in layers]
    for index, blocks in enumerate(expected):
        blocks[chosen] = as_bytes(staging.tensor)[:, index]
    call(adapter, "block_scatter", staging.tensor, [layer.tensor for layer in layers], ids.tensor)
    check_zones({"staging": staging, "block_ids": ids, **_named(layers)})
    check_inputs({"staging": staging, "block_ids": ids})
    for index, (layer, right) in enumerate(zip(layers, expected, strict=True)):
        wrong = _wrong_blocks(as_bytes(layer.tensor), right)
        for block in sorted(wrong, key=lambda block: block not in chosen):
            where = f"block {block} of layer {index}"
            if block not in chosen:
                raise InvariantViolation("no-stray-write", f"{where} has changed; nothing is scattered there")
            place = chosen.index(block)
            raise InvariantViolation(
                "staging-exact", f"{where} has not the bytes of place {place} of staging"
            )
