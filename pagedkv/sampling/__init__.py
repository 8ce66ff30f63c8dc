"""What the next token is: parameters, random numbers, beams; `sampler` does it on tensors."""

from pagedkv.sampling.params import SamplingParams

__all__ = ["SamplingParams"]
