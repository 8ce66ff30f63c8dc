"""From a folder, or a name on the Hub, to a model that can be served."""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig

from pagedkv.errors import ConfigError, ModelError, ModelNotFound, UnsupportedModel
from pagedkv.models import attention
from pagedkv.models.architectures import COMPARED, model_class
from pagedkv.models.comparison import require_agreement
from pagedkv.models.probe import probe
from pagedkv.models.ranks import Ranks
from pagedkv.models.spec import LoadedModel, ModelSpec
from pagedkv.models.tensor_parallel import load_sharded, require_sharded
from pagedkv.models.tokenizer import load_tokenizer

__all__ = ["DTYPES", "load_model"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What weights, keys and values can be in, by name."""

_log = logging.getLogger("pagedkv")


def load_model(
    path_or_name: str | PathLike[str],
    *,
    dtype: torch.dtype | str = "auto",
    device: torch.device | str | None = None,
    revision: str = "main",
    max_model_len: int | None = None,
    ranks: Ranks | None = None,
) -> LoadedModel:
    """Load a causal language model. Code that comes with a model is never run.

    Args:
        path_or_name: a folder with `config.json` and safetensors, or a name on the Hub.
        dtype: one of `DTYPES`, or its name; "auto" for the one it was saved in.
        device: where to; None for the GPU if there is one.
        revision: branch, tag or commit on the Hub.
        max_model_len: a smaller bound of the length than the model's own; None for that.
        ranks: the processes that share the model, all of which make this call; None for this one alone.

    Raises:
        ModelNotFound: there is no model of that name, no configuration, or weights are missing.
        UnsupportedModel: it cannot be served; the message has the reason.
        ConfigError: a dtype or device that there is not, or a length beyond the model's.
        ModelError: its files cannot be read.
    """
    with nullcontext() if ranks is None else ranks.together("loading the model"):
        place = _settled_device(device)
        wanted = _settled_dtype(dtype)
        name = _settled_name(fspath(path_or_name))
        config = _load_config(name, revision)
        found = model_class(config)
        length = _settled_length(config, max_model_len)
        attention.register()
        load = partial(_load_weights, found, name, config=config, dtype=wanted, revision=revision)
        model = load() if ranks is None else load_sharded(load, config, ranks)
        model = model.eval().requires_grad_(False).to(place)
        tokenizer = load_tokenizer(name, revision)
    loaded = LoadedModel(
        name=name,
        model=model,
        spec=_probed(model, name, ranks),
        tokenizer=tokenizer,
        end_token_ids=_end_token_ids(model),
        max_model_len=length,
    )
    if config.model_type not in COMPARED:
        require_agreement(loaded)
    return loaded


def _probed(model: Any, name: str, ranks: Ranks | None) -> ModelSpec:
    """The model's shape, which the kernels must take."""
    spec = probe(model)
    if ranks is not None:
        require_sharded(spec, model.config, ranks)
    if spec.dtype not in DTYPES.values():
        raise UnsupportedModel(f"{name} has keys in {spec.dtype}; served are {', '.join(DTYPES)}: pass dtype")
    if spec.device.type == "cuda":
        from pagedkv.kernels.attention_launch import HEAD_DIMS

        if spec.head_dim not in HEAD_DIMS:
            raise UnsupportedModel(
                f"{name} has heads of {spec.head_dim} elements; on a GPU there are kernels for "
                f"{', '.join(map(str, HEAD_DIMS))}"
            )
    return spec


def _settled_device(device: torch.device | str | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        settled = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device is {device!r}; it must be cpu, cuda, or cuda:N") from error
    if settled.type not in ("cpu", "cuda"):
        raise ConfigError(f"device is {device!r}; there are kernels for cpu and cuda only")
    count = torch.cuda.device_count() if settled.type == "cuda" else 1
    if (settled.index or 0) >= count:
        raise ConfigError(f"device is {device!r}, and this machine has {count} GPUs; use one that is there")
    if settled.type == "cuda" and settled.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return settled


def _settled_dtype(dtype: torch.dtype | str) -> torch.dtype | str:
    settled = DTYPES.get(dtype, dtype) if isinstance(dtype, str) else dtype
    if settled != "auto" and settled not in DTYPES.values():
        raise ConfigError(f'dtype is {dtype!r}; it must be "auto", {", ".join(DTYPES)}')
    return settled


def _settled_length(config: Any, asked: int | None) -> int:
    """Tokens of a sequence at most: the model's bound, or a smaller one that was asked for."""
    own = getattr(config, "max_position_embeddings", None)
    if asked is None and own is None:
        raise UnsupportedModel(f"{config.model_type} does not tell its longest sequence; pass max_model_len")
    if asked is None:
        return int(own)  # type: ignore[arg-type]
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 1:
        raise ConfigError(f"max_model_len is {asked!r}; it must be a positive int")
    if own is not None and asked > own:
        raise ConfigError(f"max_model_len is {asked}, and the model has positions for {own} tokens")
    return asked


def _settled_name(name: str) -> str:
    """A folder, which must have a configuration and weights, or what looks like a name."""
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelNotFound(f"{name} has no config.json; give the folder that a model was saved to")
        if not any(folder.glob("*.safetensors")):
            others = sorted(path.name for path in folder.glob("*.bin"))
            hint = f" (it has {', '.join(others)}: save the model again as safetensors)" if others else ""
            raise ModelNotFound(f"{name} has a config.json and no weights, *.safetensors{hint}")
        return fspath(folder)
    if folder.is_file():
        raise ModelNotFound(f"{name} is a file; give the folder that the model was saved to")
    if name.count("/") > 1 or name.startswith((".", "/", "~")) or not name:
        raise ModelNotFound(f"there is no folder {name!r}, and no model on the Hub has such a name")
    return name


def _load_config(name: str, revision: str) -> Any:
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=False)
    except OSError as error:
        if Path(name).is_dir():
            raise ModelError(f"{name}: cannot read its config.json: {_first_line(error)}") from error
        raise ModelNotFound(
            f"there is no folder {name!r}, and the Hub gave no model of that name: {_first_line(error)}"
        ) from error
    except (ValueError, KeyError) as error:
        raise UnsupportedModel(f"{name}: transformers cannot read its config.json: {error}") from error
    return config


def _load_weights(found: Any, name: str, **settings: Any) -> Any:
    """The model with all its weights; none is made up."""
    try:
        model, told = found.from_pretrained(
            name,
            attn_implementation=attention.NAME,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are told, by name, and refused here
            output_loading_info=True,
            **settings,
        )
    except OSError as error:
        raise ModelNotFound(f"{name}: its weights cannot be had: {_first_line(error)}") from error
    except (SafetensorError, ImportError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name}: its weights cannot be loaded: {_first_line(error)}") from error
    if mismatched := sorted(told["mismatched_keys"]):
        weight, saved, expected = mismatched[0]
        raise ModelError(
            f"{name}: {len(mismatched)} weights do not fit its config.json: {weight} is {list(saved)}, and "
            f"{found.__name__} has {list(expected)} there"
        )
    if missing := sorted(told["missing_keys"]):
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ModelNotFound(f"{name} lacks {len(missing)} weights that {found.__name__} has: {shown}")
    if unexpected := sorted(told["unexpected_keys"]):
        _log.warning("[Models] %s has %d weights that are not used: %s", name, len(unexpected), unexpected[0])
    return model


def _end_token_ids(model: Any) -> Sequence[int]:
    """What ends a text: as the generation settings say, or the configuration."""
    ends = getattr(model.generation_config, "eos_token_id", None)
    if ends is None:
        ends = getattr(model.config, "eos_token_id", None)
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, Sequence) else (int(ends),)


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]
