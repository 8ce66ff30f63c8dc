"""`pagedkv bench`: how far the kernels are from what this machine can do, and from their peers.

cases      a shape on which a kernel is measured
floors     what it has to move and to compute, and how long that takes at least
grid       the shapes that are measured
machine    what this machine is
limits     what it can do: bandwidth and matrix rates
timing     clocks, and contestants taking turns
attention  problems, references and contestants of the attention kernels
copies     the same of the kernels that move KV
peers      attention of other projects, each skipped with a reason where it cannot run
contest    from a shape to its contestants
kernels    the run
results    what it found, and that as JSON
table      as a table
page       as a page of HTML
"""
