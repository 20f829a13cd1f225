"""Write and read an adapter in the layout of PEFT; a folder that is read is untrusted.

Shell: reads the disk; files to be written are a mapping from name to bytes.

A folder holds ``adapter_config.json`` and ``adapter_model.safetensors``, with tensors named as PEFT names them:
``base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight``. An export of a run also names, in the header
of the weights file, the weights that the adapter rests on, by the hash of each stage.

Legend: P parameters of the adapter.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from swarm.config.bounds import BOUNDS, target_shape
from swarm.config.spec import ADAPTER_TARGETS, NANO, AdapterSpec, ModelSpec
from swarm.errors import BadConfig
from swarm.primitives.commitments import hash_of
from swarm.training.data.disk import open_regular
from swarm.training.hf.config import CONFIG_BYTES_MAX, as_json, read_object
from swarm.training.hf.export import CARD_FILE, RunFacts, card
from swarm.training.hf.load import HfFolder, read_into, read_stage, small_file, tensors_of
from swarm.training.hf.weights import HEADER_BYTES_MAX, LENGTH_BYTES, TensorSpan, header_length
from swarm.training.model.adapter import PROJECTIONS
from swarm.training.model.stages import StagePlan, adapter_plan, plan_stages
from swarm.types import Digest

ADAPTER_CONFIG_FILE = "adapter_config.json"
ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
HINT = "a LoRA adapter of plain form is read: docs/spec/models.md"
BASE_KEY = "swarm_base_roots"
"""Key in the header of the weights file: the hashes of the stages below the adapter, as hex, with commas."""
_PREFIX = "base_model.model."
_MODULES = {path.rpartition(".")[2]: name for name, path in PROJECTIONS.items()}
"""Target by the name of its module, as ``target_modules`` has it."""
_REFUSED_WHEN_SET = (
    "use_rslora",
    "use_dora",
    "fan_in_fan_out",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "exclude_modules",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "layer_replication",
    "use_qalora",
    "use_bdlora",
)
"""Features that change the arithmetic: false, null, empty or absent means plain LoRA."""


def adapter_files(
    model: ModelSpec, adapter: AdapterSpec, params_P: Tensor, base: str, facts: RunFacts | None
) -> dict[str, bytes]:
    """Return the files of an adapter folder; ``base`` is the folder or hub name of the weights below, or "".

    ``params_P`` are the adapters of all stages, end to end.
    """
    alpha = adapter.lora_alpha_nano / NANO
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "r": adapter.rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "target_modules": [PROJECTIONS[name].rpartition(".")[2] for name in adapter.targets],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
    }
    plan = adapter_plan(plan_stages(model, 1)[0], adapter)
    named = {_PREFIX + name: x.contiguous() for name, x in plan.named(params_P).items()}
    roots = facts.base_roots if facts is not None else ()
    metadata = {"format": "pt"} | ({BASE_KEY: ",".join(roots)} if roots else {})
    return {
        ADAPTER_CONFIG_FILE: as_json(config),
        ADAPTER_WEIGHTS_FILE: save_safetensors(named, metadata=metadata),
        CARD_FILE: card(model, facts).encode(),
    }


def is_adapter(folder: Path) -> bool:
    """Return True if a folder holds an adapter, and not a whole model."""
    return (folder / ADAPTER_CONFIG_FILE).is_file()


def base_of(folder: Path) -> str:
    """Return the folder or hub name of the weights below an adapter, as its folder says; "" if it does not."""
    found = _config(folder).get("base_model_name_or_path")
    return found if isinstance(found, str) else ""


def read_adapter_folder(folder: Path, below: HfFolder) -> tuple[StagePlan, Tensor]:
    """Return the plan and the flat vector P of an adapter for the model of ``below``.

    Raises ``BadConfig``, naming the key, the tensor or the hash, for an adapter that is not plain LoRA, or is
    for another model.
    """
    try:
        adapter = _spec_of(_config(folder), below.model)
        plan = adapter_plan(plan_stages(below.model, 1)[0], adapter)
        spans = dict(tensors_of(folder, ADAPTER_WEIGHTS_FILE))
        _check_tensors(plan, spans, below.folder)
        _check_base(folder, below)
        flat_P, at = np.empty(plan.num_parameters, dtype=np.float32), 0
        for part in plan.tensors:
            name = _PREFIX + part.name
            at = read_into(flat_P, at, folder / ADAPTER_WEIGHTS_FILE, name, spans[name])
    except BadConfig as error:
        raise BadConfig(f"{folder}: {error}", hint=error.hint) from None
    return plan, torch.from_numpy(flat_P)


def check_below(found: HfFolder, roots: tuple[Digest, ...]) -> None:
    """Raise ``BadConfig`` unless the weights of a folder are those that an adapter rests on, by stage."""
    for plan, root in zip(plan_stages(found.model, len(roots)), roots, strict=True):
        if hash_of(read_stage(found, plan)) != root:
            raise BadConfig(
                f"the adapter rests on other weights than those of {found.folder}: stage {plan.stage} is"
                f" not {root.hex()[:12]}",
                hint="name the folder that the run was launched from",
            )


def _config(folder: Path) -> dict[str, object]:
    raw = small_file(folder / ADAPTER_CONFIG_FILE, CONFIG_BYTES_MAX)
    return read_object(raw, ADAPTER_CONFIG_FILE, CONFIG_BYTES_MAX)


def _spec_of(config: Mapping[str, object], model: ModelSpec) -> AdapterSpec:
    if config.get("peft_type") != "LORA":
        raise _refused("peft_type", config.get("peft_type"), 'only "LORA" can be computed here')
    for key in _REFUSED_WHEN_SET:
        if config.get(key):
            raise _refused(key, config[key], "adapters with it cannot be computed here")
    if config.get("bias", "none") != "none":
        raise _refused("bias", config["bias"], 'only "none" can be computed here')
    begun = config.get("init_lora_weights", True)
    if not isinstance(begun, bool) and begun != "gaussian":
        raise _refused("init_lora_weights", begun, "it may have changed the weights below")
    given = config.get("target_modules")
    modules = cast("list[object]", given) if isinstance(given, list) else []
    if not modules or not all(isinstance(name, str) and name in _MODULES for name in modules):
        raise _refused("target_modules", given, f"a list of some of {', '.join(_MODULES)}")
    chosen = {_MODULES[cast("str", name)] for name in modules}
    targets = tuple(name for name in ADAPTER_TARGETS if name in chosen)
    rank, most = config.get("r"), min(min(target_shape(model, name)) for name in targets)
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= most:
        raise _refused(
            "r", rank, f"it must be a whole number from 1 to {most}, the narrowest target"
        )
    alpha, highest = config.get("lora_alpha"), BOUNDS["lora_alpha_nano"][1]
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not is_number or not 1 <= cast("float", alpha) * NANO <= highest:
        raise _refused("lora_alpha", alpha, f"it must be above 0 and at most {highest / NANO:g}")
    return AdapterSpec(
        rank=rank, lora_alpha_nano=round(cast("float", alpha) * NANO), targets=targets
    )


def _check_tensors(plan: StagePlan, spans: Mapping[str, TensorSpan], below: Path) -> None:
    wanted = {_PREFIX + part.name: part.shape for part in plan.tensors}
    for name, shape in wanted.items():
        if name not in spans:
            raise BadConfig(
                f"an adapter for another model than {below}: it lacks {name}", hint=HINT
            )
        if spans[name].shape != shape:
            raise BadConfig(
                f"an adapter for another model than {below}: {name} has the shape"
                f" {list(spans[name].shape)}, and {list(shape)} fits",
                hint=HINT,
            )
    for name in spans:
        if name not in wanted:
            raise BadConfig(
                f"an adapter for another model than {below}: it holds {name[:100]}", hint=HINT
            )


def _check_base(folder: Path, below: HfFolder) -> None:
    """Compare the weights below with the hashes in the header, where an export of a run wrote them."""
    path = folder / ADAPTER_WEIGHTS_FILE
    with open_regular(path, follow=True) as file:
        length = header_length(file.read(LENGTH_BYTES), path.stat().st_size, path.name)
        header = read_object(file.read(length), path.name, HEADER_BYTES_MAX)
    metadata = header.get("__metadata__")
    text = cast("dict[str, object]", metadata).get(BASE_KEY) if isinstance(metadata, dict) else None
    if text is None:
        return
    try:
        roots = tuple(Digest(bytes.fromhex(part)) for part in str(text).split(","))
    except ValueError:
        roots = ()
    if not 1 <= len(roots) <= below.model.num_layers or any(len(root) != 32 for root in roots):
        raise BadConfig(f"{path.name}: {BASE_KEY} are not the hashes of stages", hint=HINT)
    check_below(below, roots)


def _refused(key: str, value: object, why: str) -> BadConfig:
    found = "missing" if value is None else json.dumps(value, default=str)[:60]
    return BadConfig(f"{ADAPTER_CONFIG_FILE}: {key} is {found}: {why}", hint=HINT)
