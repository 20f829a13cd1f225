"""The whole model in the layout of transformers' ``LlamaForCausalLM``.

Core: files as a mapping from name to bytes; the caller writes them, ``training/hf/load.py`` reads them back.

An exported folder holds ``config.json``, ``generation_config.json``, ``model.safetensors`` (float32), a model
card and the tokenizer, also that of bytes. ``LlamaForCausalLM.from_pretrained`` loads it with equal logits,
``AutoTokenizer`` with equal ids, and ``pipeline("text-generation", model=FOLDER)`` writes with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from swarm.config.spec import ModelSpec
from swarm.errors import UsageError
from swarm.training.data.tokenizer import BytesTokenizer, bytes_file
from swarm.training.hf.config import CONFIG_FILE, as_json, config_text
from swarm.training.model.llama import EMBEDDING_NAME, HEAD_NAME
from swarm.training.model.stages import plan_stages
from swarm.training.record.checkpoint import joined

GENERATION_FILE = "generation_config.json"
WEIGHTS_FILE = "model.safetensors"
TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
CARD_FILE = "README.md"
PEFT = "peft"
FORMATS = ("hf", "safetensors", PEFT)
"""A folder that transformers loads, the weights alone, or the adapter as a folder that PEFT loads."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Origin of a model, for its card, from the ledger alone."""

    name: str
    digest: str
    """Digest of the run spec, as hex."""
    round: int
    rounds: int
    tokens: int
    """Tokens that the run has trained on so far."""
    num_stages: int
    roots: tuple[str, ...]
    """The name of each stage's weights, as hex: on the ledger, or in the run spec for round 0."""
    base_roots: tuple[str, ...] = ()
    """With an adapter, the name of each stage's weights below it, as hex."""


def export_files(
    model: ModelSpec,
    shards: Sequence[Tensor],
    *,
    facts: RunFacts | None = None,
    end_token: int | None = None,
) -> dict[str, bytes]:
    """Return the files of an export; ``shards`` are the flat vectors of all stages in order.

    ``end_token`` is the id between two documents, at which transformers stops generating. Raises ``UsageError``
    for a model with bottlenecks: transformers has no such architecture, and a Llama without them gives other
    logits.
    """
    if model.bottleneck_rank:
        raise UsageError(
            f"a model with bottlenecks of rank {model.bottleneck_rank} between its stages is no Llama:"
            " transformers would leave them out, and give other logits",
            hint="swarm export FOLDER --format safetensors: its weights, bottlenecks included",
        )
    (plan,) = plan_stages(model, 1)
    named = plan.named(joined(shards))
    generation = {"do_sample": True, "max_length": model.seq_len, "eos_token_id": end_token}
    return {
        CONFIG_FILE: config_text(model, is_tied=_is_tied(named)),
        GENERATION_FILE: as_json(generation),
        WEIGHTS_FILE: _weights_file(named),
        CARD_FILE: card(model, facts).encode(),
    }


def weights(model: ModelSpec, shards: Sequence[Tensor]) -> bytes:
    """Return the weights file, with tensors named as in transformers; a tied head is left out."""
    (plan,) = plan_stages(model, 1)
    return _weights_file(plan.named(joined(shards)))


def _is_tied(named: Mapping[str, Tensor]) -> bool:
    """Return True if the head is the embedding, as in a tied model whose weights were not trained."""
    return torch.equal(named[HEAD_NAME], named[EMBEDDING_NAME])


def _weights_file(named: Mapping[str, Tensor]) -> bytes:
    """Return the weights file; of a tied model, as transformers saves it, without the head."""
    left_out = {HEAD_NAME} if _is_tied(named) else set[str]()
    kept = {name: x.contiguous() for name, x in named.items() if name not in left_out}
    return save_safetensors(kept, metadata={"format": "pt"})


def tokenizer_files(raw: bytes, model: ModelSpec) -> dict[str, bytes]:
    """Return the files of a tokenizer beside a model.

    ``raw`` is its ``tokenizers`` file, and nothing for bytes. The files are empty, and not written, for a
    model of other tokens than bytes whose file is not here.
    """
    if not raw and model.vocab_size != BytesTokenizer.num_token_ids:
        return {TOKENIZER_FILE: b"", TOKENIZER_CONFIG_FILE: b""}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": model.seq_len,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    return {TOKENIZER_FILE: raw or bytes_file(), TOKENIZER_CONFIG_FILE: as_json(config)}


def card(model: ModelSpec, facts: RunFacts | None) -> str:
    """Return the model card: what the model is, its origin, and code to load it."""
    (plan,) = plan_stages(model, 1)
    rows = [
        ("parameters", f"{plan.num_parameters:,}"),
        ("layers", str(model.num_layers)),
        ("hidden size", str(model.hidden_size)),
        ("heads", f"{model.num_heads}, {model.num_kv_heads} of keys and values"),
        ("vocabulary", str(model.vocab_size)),
        ("context", f"{model.seq_len} tokens"),
    ]
    if facts is not None:
        when = "before training" if facts.round == 0 else f"{facts.round} of {facts.rounds}"
        rows += [
            ("run", facts.name),
            ("run spec", f"`{facts.digest}`"),
            ("round", when),
            ("tokens trained on by the run", f"{facts.tokens:,}"),
        ]
        what = "adapter" if facts.base_roots else "weights"
        rows += [(f"{what} of stage {i}", f"`{root}`") for i, root in enumerate(facts.roots)]
        rows += [(f"below it in stage {i}", f"`{root}`") for i, root in enumerate(facts.base_roots)]
    name = facts.name if facts is not None else "swarm-model"
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [llama, swarm]\n---\n\n"
        f"# {name}\n\nA Llama-style decoder, trained by a swarm and exported with `swarm export`.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "```python\nfrom transformers import pipeline\n\n"
        'write = pipeline("text-generation", model="FOLDER")\nprint(write("def "))\n```\n'
    )
