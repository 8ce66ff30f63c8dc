"""The check of one attention case."""

from collections.abc import Collection, Sequence

import torch

from pytest_pagedkv.conformance.kernels.adapter import KernelAdapter
from pytest_pagedkv.conformance.kernels.buffers import as_bytes, check_inputs, check_zones
from pytest_pagedkv.conformance.kernels.calling import call, explained
from pytest_pagedkv.conformance.kernels.cases import AttentionCase
from pytest_pagedkv.conformance.kernels.problem import Problem, Slot
from pytest_pagedkv.conformance.violation import InvariantViolation

__all__ = ["check_attention"]


def check_attention(adapter: KernelAdapter, case: AttentionCase) -> None:
    """Call a kernel, twice, and compare.

    Raises:
        InvariantViolation: something does not hold.
    """
    with explained(check_attention, adapter, case):
        _Attention(adapter, case).check()


class _Attention:
    def __init__(self, adapter: KernelAdapter, case: AttentionCase) -> None:
        self.adapter, self.case = adapter, case
        self.problem = Problem(case, adapter.device)

    def check(self) -> None:
        problem = self.problem
        for guarded in (*problem.inputs.values(), problem.out):
            guarded.keep()
        first = self._run()
        check_zones({**problem.inputs, "out": problem.out})
        check_inputs(problem.inputs)
        self._check_written()
        self._check_reads(first)
        self._check_same(first, self._run())
        self._check_accuracy(first)

    def _run(self) -> torch.Tensor:
        """Call the kernel on a poisoned output. Returns the packed rows."""
        problem = self.problem
        problem.out.expect_writes()
        call(self.adapter, self.case.kernel, *problem.arguments)
        return problem.out.tensor.reshape(-1, *problem.out.tensor.shape[-2:]).clone()

    def _check_written(self) -> None:
        out = self.problem.out
        if bool(out.unwritten.any()):
            left = out.unwritten.reshape(-1, *out.tensor.shape[-2:])
            row, head, element = left.nonzero()[0].tolist()
            raise InvariantViolation(
                "output-written",
                f"{int(left.sum())} of {left.numel()} elements of out are not written; the first is of "
                f"{self._place(row)}, head {head}, element {element}",
            )

    def _check_reads(self, out: torch.Tensor) -> None:
        for sequence in range(len(self.case.lengths)):
            if self._is_tainted(out, sequence):
                self._find_stray_read(sequence)
                raise InvariantViolation(
                    "accuracy",
                    f"the output of sequence {sequence} is not finite, though all that it reads is",
                )

    def _is_tainted(self, out: torch.Tensor, sequence: int) -> bool:
        return not bool(torch.isfinite(out[self.problem.rows[sequence]]).all())

    def _check_same(self, first: torch.Tensor, second: torch.Tensor) -> None:
        if torch.equal(as_bytes(first), as_bytes(second)):
            return
        row, head, element = (first != second).nonzero()[0].tolist()
        raise InvariantViolation(
            "determinism",
            f"two equal calls differ at {self._place(row)}, head {head}, element {element}: "
            f"{float(first[row, head, element])!r}, then {float(second[row, head, element])!r}",
        )

    def _check_accuracy(self, out: torch.Tensor) -> None:
        expected = self.problem.expected()
        torch_error = max(one.torch_error for one in expected)
        allowed = self.adapter.error_ratio * torch_error + max(one.rounding for one in expected)
        for sequence, one in enumerate(expected):
            rows = self.problem.rows[sequence]
            error = (out[rows].double().cpu() - one.exact).abs()
            if float(error.max()) <= allowed:
                continue
            self._find_stray_read(sequence)
            row, head, element = worst = (error == error.max()).nonzero()[0].tolist()
            found, right = (float(result[tuple(worst)]) for result in (out[rows], one.exact))
            raise InvariantViolation(
                "accuracy",
                f"{self._place(rows.start + row)}, head {head}, element {element} is {found:.6g} "
                f"for {right:.6g}, an error of {float(error.max()):.3g}; allowed is {allowed:.3g}, torch in "
                f"{self.case.dtype} has {torch_error:.3g}",
            )

    def _place(self, row: int) -> str:
        """A row of the packed output, in words."""
        for sequence, rows in enumerate(self.problem.rows):
            if row < rows.stop:
                length, query_len = self.case.lengths[sequence]
                position = length - query_len + row - rows.start
                return f"sequence {sequence} of {length} tokens, position {position}"
        raise IndexError(f"row {row} of an output of {self.problem.rows[-1].stop} rows")

    # ---- which slot was read that should not have been

    def _find_stray_read(self, sequence: int) -> None:
        """Find the slot that a wrong output comes from, by poisoning halves.

        Raises:
            InvariantViolation: there is one. Otherwise the output is wrong for another reason.
        """
        problem, pool = self.problem, self.case.pool
        everything = [(block, i) for block in range(pool.num_blocks) for i in range(pool.block_size)]
        own = set(problem.slots[sequence])
        suspects = [slot for slot in everything if slot not in own]
        if self._is_tainted(self._run_with(everything), sequence):
            self._find_read_around(sequence, everything)
            return
        if not self._depends_on(sequence, suspects, everything):
            return
        while len(suspects) > 1:
            half = suspects[: len(suspects) // 2]
            suspects = half if self._depends_on(sequence, half, everything) else suspects[len(half) :]
        block, offset = suspects[0]
        raise InvariantViolation(
            "no-stray-read",
            f"sequence {sequence} of {self.case.lengths[sequence][0]} tokens, with the table "
            f"{problem.tables[sequence]}, reads slot {offset} of block {block}, "
            f"{self._owner(suspects[0], sequence)}",
        )

    def _run_with(self, slots: Collection[Slot]) -> torch.Tensor:
        self.problem.poison_all_but(slots)
        return self._run()

    def _depends_on(self, sequence: int, poisoned: Sequence[Slot], everything: Sequence[Slot]) -> bool:
        return self._is_tainted(self._run_with(set(everything) - set(poisoned)), sequence)

    def _find_read_around(self, sequence: int, everything: Sequence[Slot]) -> None:
        for name, guarded in self.problem.inputs.items():
            guarded.fill_zones(0)
            if not self._is_tainted(self._run_with(everything), sequence):
                raise InvariantViolation(
                    "no-stray-read", f"sequence {sequence} reads memory before or behind {name}"
                )

    def _owner(self, slot: Slot, sequence: int) -> str:
        """Whose slot it is, in words."""
        for other, slots in enumerate(self.problem.slots):
            if slot in slots:
                return f"which is position {slots.index(slot)} of sequence {other}"
        if slot[0] in self.problem.tables[sequence]:
            return "which is behind its last token"
        return "which no sequence has"
