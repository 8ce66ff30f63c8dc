"""The tokenizer that comes with a model, if one does."""

import logging
from typing import Any

from transformers import AutoTokenizer

__all__ = ["load_tokenizer"]

_log = logging.getLogger("pagedkv")


def load_tokenizer(path_or_name: str, revision: str) -> Any | None:
    """A model's tokenizer.

    Args:
        path_or_name: as of the model.
        revision: likewise.

    Returns:
        transformers' tokenizer; None, with a line in the log, if there is none: token ids work without one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path_or_name, revision=revision, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - what a missing or damaged one raises depends on its class
        _log.info("[Models] %s has no tokenizer: %s", path_or_name, str(error).split("\n", 1)[0])
        return None
    # Some classes, where there are no files, make a tokenizer that knows its special tokens only.
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        _log.info("[Models] %s has no tokenizer files", path_or_name)
        return None
    return tokenizer
