"""The whole model in the layout of transformers' ``LlamaForCausalLM``, and back.

Core: files as a mapping from name to bytes; the caller writes and reads them.

An exported folder holds ``config.json``, ``generation_config.json`` and ``model.safetensors`` (float32) and
loads with ``LlamaForCausalLM.from_pretrained`` with equal logits. Tokens are bytes, or those of the
``tokenizer.json`` beside them, which ``AutoTokenizer`` loads.
"""

import json
from collections.abc import Mapping, Sequence

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from swarm.errors import BadConfig, SwarmError
from swarm.spec import NANO, ModelSpec
from swarm.training.checkpoint import joined
from swarm.training.stages import plan_stages

CONFIG_FILE = "config.json"
GENERATION_FILE = "generation_config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
EXPORT_FILES = (CONFIG_FILE, GENERATION_FILE, WEIGHTS_FILE)
"""What an exported folder holds."""
CONFIG_BYTES_MAX = 1 << 20
EXPORT_PARAMETERS_MAX = 1 << 40
"""Bounds on what a folder of unknown origin may claim."""


def export_files(model: ModelSpec, shards: Sequence[Tensor]) -> dict[str, bytes]:
    """The files of an export; ``shards`` are the flat vectors of all stages in order."""
    (plan,) = plan_stages(model, 1)
    named = {name: x.contiguous() for name, x in plan.named(joined(shards)).items()}
    return {
        CONFIG_FILE: _json(_config(model)),
        GENERATION_FILE: _json({"do_sample": True, "max_length": model.seq_len}),
        WEIGHTS_FILE: save_safetensors(named, metadata={"format": "pt"}),
    }


def tokenizer_files(raw: bytes) -> dict[str, bytes]:
    """The files of a tokenizer beside a model; empty ones, which are not written, for bytes."""
    config = _json({"tokenizer_class": "PreTrainedTokenizerFast"}) if raw else b""
    return {TOKENIZER_FILE: raw, TOKENIZER_CONFIG_FILE: config}


def load_export(files: Mapping[str, bytes]) -> tuple[ModelSpec, Tensor]:
    """(model, flat vector of all its parameters) of an exported folder.

    Raises ``BadConfig`` when a file is missing, damaged, or of a model that this house cannot compute.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if name not in files:
            raise BadConfig(
                f"{name} is missing: this is not an exported model", hint="swarm export FOLDER"
            )
    model = _model(files[CONFIG_FILE])
    try:
        named = load_safetensors(files[WEIGHTS_FILE])
        (plan,) = plan_stages(model, 1)
        return model, plan.flat(named)
    except (SafetensorError, SwarmError) as error:
        raise BadConfig(
            f"{WEIGHTS_FILE} does not hold the model of {CONFIG_FILE}: {error}"
        ) from None


def _config(model: ModelSpec) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": model.vocab_size,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "num_key_value_heads": model.num_kv_heads,
        "head_dim": model.hidden_size // model.num_heads,
        "max_position_embeddings": model.seq_len,
        "rms_norm_eps": model.norm_eps_nano / NANO,
        # Older releases of transformers read the first, newer ones the second.
        "rope_theta": float(model.rope_theta),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(model.rope_theta)},
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "torch_dtype": "float32",
        "use_cache": True,
    }


def _model(raw: bytes) -> ModelSpec:
    try:
        if len(raw) > CONFIG_BYTES_MAX:
            raise ValueError("too long")
        config = json.loads(raw)
        rope = config.get("rope_parameters") or {}
        sizes = [
            config["vocab_size"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config.get("num_key_value_heads", config["num_attention_heads"]),
            config["intermediate_size"],
            config["max_position_embeddings"],
            round(config.get("rope_theta", rope.get("rope_theta", 10_000))),
            round(config["rms_norm_eps"] * NANO),
        ]
        fits = config["model_type"] == "llama" and config.get("hidden_act", "silu") == "silu"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadConfig(f"{CONFIG_FILE} is not the description of a model: {error}") from None
    if not fits or config.get("tie_word_embeddings") or config.get("attention_bias"):
        raise BadConfig(f"{CONFIG_FILE} describes another kind of model than this house trains")
    if not all(isinstance(size, int) and 0 < size < EXPORT_PARAMETERS_MAX for size in sizes):
        raise BadConfig(f"{CONFIG_FILE} holds sizes that are not positive whole numbers")
    return ModelSpec(*sizes)


def _json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
