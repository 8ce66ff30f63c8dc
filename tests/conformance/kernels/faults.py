"""Kernels with one fault each: every step of the reference, wrong in the ways in which kernels are wrong."""

import torch

from pytest_pagedkv.conformance.kernels.suite import KernelConformance
from tests.conformance.kernels.reference import ReferenceKernels
from tests.conformance.planting import Faults

DECODE, PREFILL = ("test_attention", "PAGED_DECODE"), ("test_attention", "PAGED_PREFILL")
FLOAT32 = ("float32",)


FAULTS = Faults(KernelConformance)
planted = FAULTS.planted


# ---- stray reads


@planted("no-stray-read", *DECODE, "NONE")
class ReadsOneBlockMore(ReferenceKernels):
    """Loads one block too many and gives it weight 0: 0 x NaN."""

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        more = min(block_tables.shape[1], -(-length // kv.shape[3]) + 1) * kv.shape[3]
        return super().gather(kv, block_tables, sequence, more, dtype, options)


@planted("no-stray-read", *PREFILL, "NONE")
class ReadsTheWholeLastBlock(ReferenceKernels):
    """Loads the slots behind the last token and gives them weight 0."""

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        whole = -(-length // kv.shape[3]) * kv.shape[3]
        return super().gather(kv, block_tables, sequence, whole, dtype, options)


@planted("no-stray-read", *DECODE, "NONE")
class ReadsTheNeighboursTable(ReferenceKernels):
    """Takes the first row of the table for all sequences."""

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        return super().gather(kv, block_tables, 0, length, dtype, options)


@planted("no-stray-read", *PREFILL, "NONE")
class ReadsPastTheTable(ReferenceKernels):
    """Takes the entry behind the last for the last block."""

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        needed = -(-length // kv.shape[3])
        row = block_tables[sequence].clone()
        if row[needed] not in row[:needed]:
            row[needed - 1] = row[needed]
        return super().gather(kv, row[None], 0, length, dtype, options)


@planted("no-stray-read", *DECODE, "NONE")
class TakesTheTableForARun(ReferenceKernels):
    """Assumes that a sequence's second block follows its first."""

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        needed = -(-length // kv.shape[3])
        row = block_tables[sequence].clone()
        following = (row[0] + 1) % kv.shape[0]
        if needed > 1 and following not in row[:needed]:
            row[1] = following
        return super().gather(kv, row[None], 0, length, dtype, options)


@planted("no-stray-read", *DECODE, "NONE")
class ReadsBeforeThePool(ReferenceKernels):
    """Reads the row before the first, of a block before block 0."""

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        keys, values = super().gather(kv, block_tables, sequence, length, dtype, options)
        before = torch.as_strided(kv, kv.shape[-1:], (1,), kv.storage_offset() - kv.shape[-1])
        return keys + 0 * before.float(), values


@planted("no-stray-read", "test_far_blocks")
class OffsetsIn32Bits(ReferenceKernels):
    """Computes the offset of a block in 32 bits."""

    dtypes = ("bfloat16",)
    max_pool_bytes = 9 << 30

    def gather(self, kv, block_tables, sequence, length, dtype, options):
        offsets = (block_tables.long() * kv.stride(0)).to(torch.int32)[sequence]
        near = [
            torch.as_strided(kv, kv.shape[1:], kv.stride()[1:], kv.storage_offset() + offset)
            for offset in offsets.tolist()
        ]
        row = torch.arange(len(near))[None]
        return super().gather(torch.stack(near), row, 0, length, dtype, options)


# ---- wrong numbers


@planted("accuracy", *PREFILL, "NONE")
class SeesTheNextToken(ReferenceKernels):
    """The causal mask is off by one."""

    def visible(self, query_len, length, num_keys, options):
        return super().visible(query_len, length + 1, num_keys, options)


@planted("accuracy", *DECODE, "NONE")
class MissesTheLastToken(ReferenceKernels):
    """A sequence that ends on a block boundary loses its last token."""

    def visible(self, query_len, length, num_keys, options):
        seen = super().visible(query_len, length, num_keys, options)
        seen[:, num_keys - 1] &= num_keys % 4 != 0 or num_keys == 1
        return seen


@planted("accuracy", *PREFILL, "NONE")
class ForgetsTheCachedContext(ReferenceKernels):
    """A chunk attends to itself only."""

    def visible(self, query_len, length, num_keys, options):
        seen = super().visible(query_len, length, num_keys, options)
        return seen & (torch.arange(num_keys) >= length - query_len)


@planted("accuracy", *DECODE, "NONE")
class DividesTwice(ReferenceKernels):
    """Applies the scale twice."""

    def cap(self, scores, options):
        return super().cap(scores * options.scale, options)


@planted("accuracy", *DECODE, "NONE")
class SumsIn8Bits(ReferenceKernels):
    """Rounds the weights to bfloat16 where float32 is asked for."""

    dtypes = FLOAT32

    def softmax(self, scores, options):
        return super().softmax(scores, options).bfloat16().float()


@planted("accuracy", *DECODE, "NONE")
class Overflows(ReferenceKernels):
    """Leaves the largest score in the exponent."""

    def softmax(self, scores, options):
        weights = scores.exp()
        return weights / weights.sum(-1, keepdim=True)


@planted("accuracy", *DECODE, "NONE")
class SwapsHeads(ReferenceKernels):
    """Reads the KV heads in the wrong order."""

    def kv_heads(self, num_query_heads, num_kv_heads):
        return super().kv_heads(num_query_heads, num_kv_heads).flip(0)


@planted("accuracy", *DECODE, "GQA")
class InterleavesHeads(ReferenceKernels):
    """Query head i reads KV head i % num_kv_heads."""

    def kv_heads(self, num_query_heads, num_kv_heads):
        return torch.arange(num_query_heads) % num_kv_heads


@planted("accuracy", *DECODE, "SLIDING_WINDOW")
class WindowIsOneTooLong(ReferenceKernels):
    """The query is not counted in the window."""

    def visible(self, query_len, length, num_keys, options):
        distance = torch.arange(length - query_len, length)[:, None] - torch.arange(num_keys)
        return (distance >= 0) & (distance <= (options.sliding_window or length))


@planted("accuracy", *PREFILL, "SLIDING_WINDOW")
class WindowOfTheLastQuery(ReferenceKernels):
    """All queries of a chunk have the window of the last."""

    def visible(self, query_len, length, num_keys, options):
        seen = super().visible(query_len, length, num_keys, options)
        return seen & seen[-1] if query_len > 1 else seen

    def softmax(self, scores, options):
        return super().softmax(scores, options).nan_to_num()


@planted("accuracy", *PREFILL, "SOFT_CAP")
class ForgetsTheCap(ReferenceKernels):
    """Leaves the soft cap out."""

    def cap(self, scores, options):
        return scores


@planted("accuracy", *PREFILL, "SOFT_CAP")
class DoesNotScaleTheCapBack(ReferenceKernels):
    """Takes the tanh, and does not multiply by the cap."""

    def cap(self, scores, options):
        return scores if options.soft_cap is None else torch.tanh(scores / options.soft_cap)


@planted("accuracy", *DECODE, "SINKS")
class ForgetsTheSinks(ReferenceKernels):
    """Leaves the sinks out."""

    def softmax(self, scores, options):
        return scores.softmax(-1)


@planted("accuracy", "test_options_together", "PAGED_DECODE")
class CapsTheSinks(ReferenceKernels):
    """Applies the soft cap to the sinks too, which only shows when both are there."""

    def softmax(self, scores, options):
        if options.sinks is None or options.soft_cap is None:
            return super().softmax(scores, options)
        sinks = (options.sinks / options.soft_cap).tanh() * options.soft_cap
        sinks = sinks[:, None, None].expand(-1, scores.shape[1], 1)
        return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]


@planted("accuracy", *PREFILL, "FP8")
class ForgetsTheValueScale(ReferenceKernels):
    """Scales values as keys."""

    def scales(self, options):
        return options.k_scale, options.k_scale


# ---- outputs and inputs


@planted("output-written", *PREFILL, "NONE")
class LeavesTheLastRow(ReferenceKernels):
    """Does not write the last row of a sequence of more than one."""

    def store(self, out, rows, result):
        last = max(rows.start + 1, rows.stop - 1)
        out[rows.start : last] = result[: last - rows.start]


@planted("output-written", *DECODE, "NONE")
class LeavesTheTailOfAHead(ReferenceKernels):
    """Writes 16 elements of a head."""

    def store(self, out, rows, result):
        out[rows, :, :16] = result[..., :16]


@planted("no-stray-write", *PREFILL, "NONE")
class WritesARowMore(ReferenceKernels):
    """Writes a whole tile where the last one is not full."""

    def store(self, out, rows, result):
        super().store(out, rows, result)
        if rows.stop == len(out) and len(out) % 4:
            behind = out.storage_offset() + out.numel()
            torch.as_strided(out, out.shape[2:], (1,), behind).fill_(0)


@planted("inputs-unchanged", *DECODE, "NONE")
class ScalesTheQueryInPlace(ReferenceKernels):
    """Uses the query as its workspace."""

    def paged_decode(self, query, kv, block_tables, seq_lens, out, options):
        query.mul_(2).div_(2).add_(1).sub_(1)
        super().paged_decode(query, kv, block_tables, seq_lens, out, options)


@planted("inputs-unchanged", *PREFILL, "NONE")
class CutsSeqLens(ReferenceKernels):
    """Turns lengths into numbers of cached tokens, in place."""

    def paged_prefill(self, query, query_starts, kv, block_tables, seq_lens, out, options):
        super().paged_prefill(query, query_starts, kv, block_tables, seq_lens, out, options)
        seq_lens.sub_(query_starts.diff())


@planted("inputs-unchanged", *DECODE, "NONE")
class CleansThePool(ReferenceKernels):
    """Takes NaN out of the pool."""

    def paged_decode(self, query, kv, block_tables, seq_lens, out, options):
        super().paged_decode(query, kv, block_tables, seq_lens, out, options)
        kv.nan_to_num_()


@planted("determinism", *DECODE, "NONE")
class KeepsItsWorkspace(ReferenceKernels):
    """Adds to partial results of the call before, if they are of the same shape."""

    kept: torch.Tensor | None = None

    def attend(self, query, keys, values, length, options):
        result = super().attend(query, keys, values, length, options)
        last, self.kept = self.kept, result
        if last is not None and torch.allclose(last, result):
            return result * (1 + 1e-6)
        return result


@planted("determinism", *PREFILL, "NONE")
class OrderOfSumsVaries(ReferenceKernels):
    """Sums in another order at every call."""

    dtypes = FLOAT32

    def attend(self, query, keys, values, length, options):
        order = torch.randperm(len(keys))
        self.order = order
        return super().attend(query, keys[order], values[order], length, options)

    def visible(self, query_len, length, num_keys, options):
        return super().visible(query_len, length, num_keys, options)[:, self.order]


@planted("documented-errors", *DECODE, "NONE")
class RefusesSmallBlocks(ReferenceKernels):
    """Takes no block of one token, and does not say so."""

    def paged_decode(self, query, kv, block_tables, seq_lens, out, options):
        if kv.shape[3] < 4:
            raise RuntimeError("block_size must be at least 4")
        super().paged_decode(query, kv, block_tables, seq_lens, out, options)


@planted("documented-errors", *PREFILL, "NONE")
class LiesAboutPrefill(ReferenceKernels):
    """Has no prefill."""

    def paged_prefill(self, query, query_starts, kv, block_tables, seq_lens, out, options):
        raise NotImplementedError


# ---- writes


@planted("skip-slot", "test_kv_write", "NONE")
class WritesSlotMinusOne(ReferenceKernels):
    """Writes skipped tokens to the last slot, where -1 points."""

    def is_kept(self, slot):
        return True


@planted("skip-slot", "test_kv_write", "NONE")
class WritesSkippedBeforeThePool(ReferenceKernels):
    """Writes skipped tokens before the pool."""

    def kv_write(self, key, value, kv, slot_mapping, k_scale, v_scale):
        super().kv_write(key, value, kv, slot_mapping, k_scale, v_scale)
        for token in (slot_mapping < 0).nonzero().flatten().tolist():
            row = key[token, 0]
            torch.as_strided(kv, row.shape, (1,), kv.storage_offset() - len(row)).copy_(row)


@planted("write-exact", "test_kv_write", "NONE")
class SwapsKeyAndValue(ReferenceKernels):
    """Stores the key as value and the value as key."""

    def put(self, kv, place, row):
        super().put(kv, (place[0], 1 - place[1], place[2]), row)


@planted("write-exact", "test_kv_write", "NONE")
class IsOneSlotLate(ReferenceKernels):
    """Writes to the offset behind."""

    def put(self, kv, place, row):
        super().put(kv, (place[0], place[1], (place[2] + 1) % kv.shape[3]), row)


@planted("write-exact", "test_kv_write", "FP8")
class MultipliesByTheScale(ReferenceKernels):
    """Multiplies where it has to divide."""

    def stored(self, row, scale, dtype):
        return super().stored(row, 1 / scale, dtype)


@planted("no-stray-write", "test_kv_write", "NONE")
class WritesATileOfTwo(ReferenceKernels):
    """Writes the offset behind the last token, too."""

    def kv_write(self, key, value, kv, slot_mapping, k_scale, v_scale):
        super().kv_write(key, value, kv, slot_mapping, k_scale, v_scale)
        behind = int(slot_mapping.max()) + 1
        if behind % kv.shape[3]:
            kv[behind // kv.shape[3], 0, :, behind % kv.shape[3]] = 0


# ---- copies


@planted("copy-exact", "test_block_copy", "any")
class CopiesKeysOnly(ReferenceKernels):
    """Forgets the values."""

    def block_copy(self, kvs, copies):
        super().block_copy([kv[:, :1] for kv in kvs], copies)


@planted("copy-exact", "test_block_copy", "any")
class CopiesTheFirstLayer(ReferenceKernels):
    """Copies in one layer."""

    def block_copy(self, kvs, copies):
        super().block_copy(kvs[:1], copies)


@planted("copy-exact", "test_block_copy", "any")
class CopiesBackwards(ReferenceKernels):
    """Takes (source, destination) for (destination, source)."""

    def block_copy(self, kvs, copies):
        super().block_copy(kvs, copies.flip(1))


@planted("copy-exact", "test_block_copy", "any")
class LeavesTheLastCopy(ReferenceKernels):
    """Runs an even number of copies."""

    def block_copy(self, kvs, copies):
        super().block_copy(kvs, copies[: len(copies) // 2 * 2])


@planted("copy-order", "test_block_copy", "given")
class CopiesAllAtOnce(ReferenceKernels):
    """Reads all sources before it writes."""

    def block_copy(self, kvs, copies):
        for kv in kvs:
            content = kv.clone()
            for source, destination in copies.tolist():
                kv[destination] = content[source]


@planted("no-stray-write", "test_block_copy", "any")
class ClearsTheSource(ReferenceKernels):
    """Moves rather than copies."""

    def block_copy(self, kvs, copies):
        super().block_copy(kvs, copies)
        for kv in kvs:
            kv[copies[:, 0]] = 0


# ---- staging


@planted("staging-exact", "test_block_staging")
class GathersInOrder(ReferenceKernels):
    """Sorts the blocks, for longer runs."""

    def block_gather(self, kvs, block_ids, staging):
        super().block_gather(kvs, block_ids.sort().values, staging)


@planted("staging-exact", "test_block_staging")
class ScattersOneLayer(ReferenceKernels):
    """Brings one layer back."""

    def block_scatter(self, staging, kvs, block_ids):
        super().block_scatter(staging, kvs[:1], block_ids)


@planted("inputs-unchanged", "test_block_staging")
class GathersAndClears(ReferenceKernels):
    """Clears what it gathered."""

    def block_gather(self, kvs, block_ids, staging):
        super().block_gather(kvs, block_ids, staging)
        for kv in kvs:
            kv[block_ids] = 0


@planted("no-stray-write", "test_block_staging")
class ScattersToBlock0(ReferenceKernels):
    """Fills up to a tile of blocks with block 0."""

    def block_scatter(self, staging, kvs, block_ids):
        super().block_scatter(staging, kvs, block_ids)
        for kv in kvs:
            if 0 not in block_ids.tolist():
                kv[0] = staging[0, 0]
