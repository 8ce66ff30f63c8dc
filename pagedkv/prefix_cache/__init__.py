"""Which full block holds the KV of which prefix. An index answers; it owns no block and counts no reference.

`TokenIndex` knows a block by the tokens themselves. `IdIndex` takes ready, prefix-chained ids from outside.
"""

from pagedkv.prefix_cache.id_index import IdIndex
from pagedkv.prefix_cache.token_index import TokenIndex
from pagedkv.prefix_cache.tree import PrefixTree, SharedPrefix

__all__ = ["IdIndex", "PrefixTree", "SharedPrefix", "TokenIndex"]
