"""Write and read ``config.json`` of transformers' Llama; a file that is read is untrusted.

Core: text in, ``ModelSpec`` out, and back; a setting that this code cannot compute is refused by its key.
"""

import json
from collections.abc import Mapping
from typing import cast

from swarm.config.bounds import BOUNDS, ROPE_KINDS
from swarm.config.spec import NANO, ROPE_DEFAULT, ROPE_LLAMA3, ModelSpec, RopeSpec
from swarm.errors import BadConfig
from swarm.training.model.llama import head_width

CONFIG_FILE = "config.json"
CONFIG_BYTES_MAX = 1 << 20
"""A hundred times the longest in use."""
HINT = "only plain Llama models are read: docs/spec/models.md"
_DEFAULT_THETA = 10_000
_REFUSED_WHEN_SET: tuple[str, ...] = (
    "attention_bias",
    "mlp_bias",
    "quantization_config",
    "sliding_window",
)
"""Features that change the arithmetic, by their key: false, null or absent means plain Llama."""
_ROPE_KEYS = frozenset(
    {
        "rope_type",
        "type",
        "rope_theta",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
        "partial_rotary_factor",
    }
)
_SHAPE = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
}
"""Size names here, and in transformers."""


def config_text(model: ModelSpec, *, is_tied: bool = False) -> bytes:
    """Return the ``config.json`` that describes ``model`` to transformers.

    ``is_tied`` says that the head is the embedding, and that the weights hold it once.
    """
    rope = _rope_fields(model.rope)
    return as_json(
        {
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
            "rope_parameters": {**rope, "rope_theta": float(model.rope_theta)},
            **({"rope_scaling": rope} if model.rope.kind != ROPE_DEFAULT else {}),
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": is_tied,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": None,
            "torch_dtype": "float32",
            "use_cache": True,
        }
    )


def read_config(raw: bytes) -> ModelSpec:
    """Return the shape that a ``config.json`` describes; ``seq_len`` is its longest context, within our bound.

    Raises ``BadConfig`` naming the key that is missing, out of bounds, or asks for another arithmetic.
    """
    config = read_object(raw, CONFIG_FILE, CONFIG_BYTES_MAX)
    if config.get("model_type") != "llama":
        raise _refused("model_type", config.get("model_type"), 'only "llama" can be computed here')
    _check_plain(config)
    sizes = {ours: _whole(config, theirs, ours) for ours, theirs in _SHAPE.items()}
    rope = _rope_rule(config)  # before the context is cut: it may count turns in it
    longest = BOUNDS["seq_len"][1]
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > longest:
        config = {**config, "max_position_embeddings": longest}
    model = ModelSpec(
        **sizes,
        seq_len=_whole(config, "max_position_embeddings", "seq_len"),
        rope_theta=_theta(config),
        norm_eps_nano=_epsilon(config),
        rope=rope,
    )
    width = head_width(model)
    if config.get("head_dim") not in (None, width):
        raise _refused("head_dim", config["head_dim"], f"heads here have {width} features")
    return model


def read_tied(raw: bytes) -> bool:
    """Return True if a ``config.json`` says that the head is the embedding; raise ``BadConfig`` for junk."""
    tied = read_object(raw, CONFIG_FILE, CONFIG_BYTES_MAX).get("tie_word_embeddings")
    if tied is not None and not isinstance(tied, bool):
        raise _refused("tie_word_embeddings", tied, "it must be true or false")
    return bool(tied)


def read_object(raw: bytes, name: str, bytes_max: int) -> dict[str, object]:
    """Return the JSON object of an untrusted file; raise ``BadConfig`` if it is not one."""
    if len(raw) > bytes_max:
        raise BadConfig(f"{name} is longer than {bytes_max} bytes", hint=HINT)
    try:
        found: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadConfig(f"{name} is not JSON: {str(error)[:100]}", hint=HINT) from None
    if not isinstance(found, dict):
        raise BadConfig(f"{name} is not a JSON object", hint=HINT)
    return cast("dict[str, object]", found)


def as_json(value: Mapping[str, object]) -> bytes:
    """Return an object as indented JSON."""
    return json.dumps(value, indent=2).encode() + b"\n"


def _check_plain(config: Mapping[str, object]) -> None:
    """Raise ``BadConfig`` for any feature that plain Llama does not have."""
    for key in _REFUSED_WHEN_SET:
        if config.get(key):
            raise _refused(key, config[key], "models with it cannot be computed here")
    if config.get("hidden_act", "silu") != "silu":
        raise _refused("hidden_act", config["hidden_act"], 'only "silu" can be computed here')
    if config.get("pretraining_tp") not in {None, 1}:
        raise _refused("pretraining_tp", config["pretraining_tp"], "only 1 can be computed here")
    for key, rope in _ropes(config):
        if rope.get("partial_rotary_factor", 1) != 1:
            name = f"{key}.partial_rotary_factor"
            raise _refused(name, rope["partial_rotary_factor"], "whole heads are turned here")


def _ropes(config: Mapping[str, object]) -> list[tuple[str, dict[str, object]]]:
    """Return the objects that say how positions turn: older releases write the first, newer ones the second."""
    found = list[tuple[str, dict[str, object]]]()
    for key in ("rope_scaling", "rope_parameters"):
        rope = config.get(key) or {}
        if not isinstance(rope, dict):
            raise _refused(key, rope, "it must be an object")
        if rope:
            found.append((key, cast("dict[str, object]", rope)))
    return found


def _rope(config: Mapping[str, object]) -> dict[str, object]:
    """Return the object that transformers reads; the base of the positions may be in either."""
    found = _ropes(config)
    theta = {k: v for _, rope in found for k, v in rope.items() if k == "rope_theta"}
    return {**theta, **found[0][1]} if found else {}


def _rope_rule(config: Mapping[str, object]) -> RopeSpec:
    """Return the rule of the rotary frequencies; raise ``BadConfig`` for one that is not computed here."""
    rules = [(key, _rule_of(config, key, rope)) for key, rope in _ropes(config)]
    if len(rules) > 1 and rules[0][1] != rules[1][1]:
        raise _refused("rope_scaling", config["rope_scaling"], "rope_parameters say otherwise")
    return rules[0][1] if rules else RopeSpec()


def _rule_of(config: Mapping[str, object], key: str, rope: Mapping[str, object]) -> RopeSpec:
    kind = rope.get("rope_type", rope.get("type", ROPE_DEFAULT))
    if kind not in ROPE_KINDS:
        raise _refused(f"{key}.rope_type", kind, f"only {', '.join(ROPE_KINDS)} are computed here")
    if unknown := sorted(rope.keys() - _ROPE_KEYS):
        raise _refused(f"{key}.{unknown[0][:40]}", rope[unknown[0]], "it is not known here")
    if kind == ROPE_DEFAULT:
        return RopeSpec()
    factor = _billionths(rope, key, "factor", "factor_nano")
    if kind != ROPE_LLAMA3:
        return RopeSpec(kind=str(kind), factor_nano=factor)
    low = _billionths(rope, key, "low_freq_factor", "low_freq_nano")
    high = _billionths(rope, key, "high_freq_factor", "high_freq_nano")
    if low >= high:
        raise _refused(f"{key}.low_freq_factor", low / NANO, "it must be below high_freq_factor")
    name = "original_max_position_embeddings"
    positions = rope.get(name, config.get("max_position_embeddings"))
    least, most = BOUNDS["original_positions"]
    if isinstance(positions, bool) or not isinstance(positions, int):
        raise _refused(f"{key}.{name}", positions, "it must be a whole number")
    if not least <= positions <= most:
        raise _refused(f"{key}.{name}", positions, f"it must be from {least} to {most}")
    return RopeSpec(
        kind=str(kind),
        factor_nano=factor,
        low_freq_nano=low,
        high_freq_nano=high,
        original_positions=positions,
    )


def _billionths(rope: Mapping[str, object], key: str, name: str, ours: str) -> int:
    """Return a number of an object in billionths; raise ``BadConfig`` if it is none or out of bounds."""
    value = rope.get(name)
    least, most = BOUNDS[ours]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= cast("float", value) * NANO <= most:
        raise _refused(f"{key}.{name}", value, f"it must be from {least / NANO} to {most / NANO}")
    return round(cast("float", value) * NANO)


def _rope_fields(rope: RopeSpec) -> dict[str, object]:
    """Return what transformers' ``rope_parameters`` say of a rule, beside the base."""
    fields: dict[str, object] = {"rope_type": rope.kind}
    if rope.kind != ROPE_DEFAULT:
        fields["factor"] = rope.factor_nano / NANO
    if rope.kind == ROPE_LLAMA3:
        fields["low_freq_factor"] = rope.low_freq_nano / NANO
        fields["high_freq_factor"] = rope.high_freq_nano / NANO
        fields["original_max_position_embeddings"] = rope.original_positions
    return fields


def _theta(config: Mapping[str, object]) -> int:
    """Return the base of the rotary positions, which must be a whole number."""
    value = _rope(config).get("rope_theta", config.get("rope_theta", _DEFAULT_THETA))
    least, most = BOUNDS["rope_theta"]
    # One comparison for every kind of number: NaN and infinity fail it too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _refused("rope_theta", value, f"it must be from {least} to {most}")
    if value != int(value):
        raise _refused("rope_theta", value, "it must be a whole number")
    return int(value)


def _epsilon(config: Mapping[str, object]) -> int:
    value = config.get("rms_norm_eps", 1e-6)
    least, most = BOUNDS["norm_eps_nano"]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= cast("float", value) * NANO <= most:
        raise _refused("rms_norm_eps", value, f"it must be from {least / NANO} to {most / NANO}")
    return round(cast("float", value) * NANO)


def _whole(config: Mapping[str, object], key: str, ours: str) -> int:
    value = config.get(key)
    if value is None and key == "num_key_value_heads":
        value = config.get("num_attention_heads")
    least, most = BOUNDS[ours]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _refused(key, value, f"it must be a whole number from {least} to {most}")
    return value


def _refused(key: str, value: object, why: str) -> BadConfig:
    found = "missing" if value is None else json.dumps(value, default=str)[:60]
    return BadConfig(f"{CONFIG_FILE}: {key} is {found}: {why}", hint=HINT)
