"""Read a model from an exported folder, or from the run that this home takes part in.

Shell: reads the home's ledger and blobs, also while its node runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from swarm.config.spec import AdapterSpec, ModelSpec, RunSpec
from swarm.errors import BadConfig, Corrupt, Unreachable, UsageError
from swarm.files import write_whole
from swarm.gossip.blobs.disk import BLOBS
from swarm.ledger.model_proof import PROOF_FILE, ModelProof, model_keys
from swarm.ledger.reader import open_ledger, read_state
from swarm.ledger.state.records import Run
from swarm.ledger.views import common_rounds
from swarm.primitives.codec import encode
from swarm.primitives.commitments import hash_of
from swarm.training.data.disk import root_of_file, tokenizer_root
from swarm.training.data.tokenizer import BytesTokenizer, Tokenizer, load_tokenizer
from swarm.training.hf.adapter import (
    adapter_files,
    base_of,
    check_below,
    is_adapter,
    read_adapter_folder,
)
from swarm.training.hf.export import (
    PEFT,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    RunFacts,
    export_files,
    tokenizer_files,
    weights,
)
from swarm.training.hf.load import open_folder, read_stage
from swarm.training.model.stages import (
    StagePlan,
    init_flat,
    merged,
    plan_stages,
    plans_of,
)
from swarm.training.record.checkpoint import decode_phi, joined
from swarm.types import NO_DIGEST, Digest, RoundIndex

_WAIT = "keep the node running until it has fetched them: swarm join"


@dataclass(frozen=True, slots=True)
class Model:
    """Whole model: its shape and all its parameters, end to end."""

    spec: ModelSpec
    params_P: Tensor
    round: int
    """Boundary of the checkpoint; 0 is the initialisation, -1 unknown."""
    tokenizer: bytes = b""
    """Bytes of the ``tokenizers`` file of the text it was trained on; empty for text as bytes."""
    facts: RunFacts | None = None
    """Facts from the ledger; None for a model from a folder."""
    adapter: AdapterSpec | None = None
    """The adapter that is merged into the parameters; None without one."""
    adapter_P: Tensor | None = None
    """Its parameters of all stages, end to end."""


def load_model(folder: Path, base: str = "") -> Model:
    """Read a folder in the form of transformers' Llama; raises ``BadConfig`` when it is not one.

    The folder of an adapter is merged into the weights below it: those of the folder ``base``, else of the one
    that the adapter names.
    """
    torch.set_num_threads(1)  # a command beside running nodes takes one core, not all
    if not is_adapter(folder):
        if base:
            raise UsageError(f"{folder} is no adapter: it has no base", hint="leave --base out")
        found = open_folder(folder)
        (plan,) = plan_stages(found.model, 1)
        return Model(found.model, read_stage(found, plan), -1, found.tokenizer)
    below = base or base_of(folder)
    if not below or not Path(below).is_dir():
        raise BadConfig(
            f"{folder} is an adapter, and {below or 'its base'} is no folder here",
            hint="--base FOLDER: the model that it was trained on",
        )
    found = open_folder(Path(below))
    plan, adapter_P = read_adapter_folder(folder, found)
    base_W = read_stage(found, plan_stages(found.model, 1)[0])
    whole_P = merged(plan, adapter_P, base_W)
    return Model(
        spec=found.model,
        params_P=whole_P,
        round=-1,
        tokenizer=found.tokenizer,
        adapter=plan.adapter,
        adapter_P=adapter_P,
    )


def adapter_of(model: Model, base: str = "") -> tuple[AdapterSpec, Tensor]:
    """Return the adapter that was merged into a model, and its parameters of all stages, end to end.

    Raises ``UsageError`` for a model without one, and ``BadConfig`` unless the folder ``base`` holds the
    weights that it rests on; an empty ``base`` names nothing.
    """
    if model.adapter is None or model.adapter_P is None:
        raise UsageError(
            "this run trains all weights: it has no adapter", hint="swarm export DIR --format hf"
        )
    if base and model.adapter.base_roots:
        check_below(open_folder(Path(base)), model.adapter.base_roots)
    return model.adapter, model.adapter_P


def save_model(folder: Path, model: Model, *, format_: str = "hf", base: str = "") -> None:
    """Write a model as an exported folder, its weights alone, or its adapter, which names ``base``."""
    if format_ == PEFT:
        adapter, adapter_P = adapter_of(model, base)
        name = str(Path(base).resolve()) if base else ""
        files = adapter_files(model.spec, adapter, adapter_P, name, model.facts)
    elif format_ == "safetensors":
        files = {WEIGHTS_FILE: weights(model.spec, [model.params_P])}
    else:
        end = _end_token(model)
        files = export_files(model.spec, [model.params_P], facts=model.facts, end_token=end)
        files |= tokenizer_files(model.tokenizer, model.spec)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            if data:
                write_whole(folder / name, data)
            else:  # one from an earlier export is not this model's
                (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise BadConfig(f"cannot write {folder}: {error.strerror}", hint="df -h, ls -ld") from None


def save_proof(folder: Path, home: Path, round_: int) -> None:
    """Write beside the weights of a boundary what proves them final: ``swarm checkpoint verify`` reads it."""
    with open_ledger(home) as ledger:
        run = ledger.runs()[-1]
        index, num_stages = run.index, run.spec.num_stages
        light = ledger.prove(model_keys(index, round_, num_stages))
        proof = ModelProof(ledger.genesis, index, RoundIndex(round_), num_stages, light)
    try:
        write_whole(folder / PROOF_FILE, encode(proof))
    except OSError as error:
        raise BadConfig(f"cannot write {folder}: {error.strerror}", hint="df -h, ls -ld") from None


def _end_token(model: Model) -> int | None:
    """Return the id between two documents; None if the tokenizer, or the library that reads it, is not here."""
    try:
        return tokenizer_of(model).separator
    except BadConfig:
        return None


def run_of_home(home: Path) -> Run:
    """Return the newest run on the ledger of this home; raises ``UsageError`` when there is none."""
    runs = read_state(home).runs()
    if not runs:
        raise UsageError(f"the ledger in {home} has no run yet", hint="swarm status")
    return runs[-1]


def model_of_run(home: Path, *, initial: bool) -> Model:
    """Return the newest checkpoint of every stage, or the initialisation, of the run of this home.

    All stages come from one boundary: the newest whose checkpoints are on this disk. Raises ``Unreachable``
    when there is none.
    """
    torch.set_num_threads(1)
    run = run_of_home(home)
    plans = plans_of(run.spec)
    if initial:
        roots = tuple(start.weights for start in run.spec.starts)
        if run.spec.is_pretrained:
            shards = [_shard(home, plan, root) for plan, root in zip(plans, roots, strict=True)]
        else:
            shards = [init_flat(plan, run.spec.seed) for plan in plans]
        return _model(home, run, shards, 0, roots)
    if not all(run.checkpoints):
        raise Unreachable(
            f"run {run.spec.name} has no checkpoint yet; one comes every"
            f" {run.spec.checkpoint_rounds} rounds and at the end",
            hint="swarm run show, or the untrained model: swarm export DIR --initial",
        )
    for round_ in common_rounds(run):
        kept = [next(c for c in stage if c.round == round_) for stage in run.checkpoints]
        roots = tuple(checkpoint.phi_root for checkpoint in kept)
        if all((home / BLOBS / root.hex()).is_file() for root in roots):
            shards = [_shard(home, plan, root) for plan, root in zip(plans, roots, strict=True)]
            return _model(home, run, shards, round_, roots)
    raise Unreachable(
        f"the checkpoints of run {run.spec.name} are not all on this disk", hint=_WAIT
    )


def _model(
    home: Path, run: Run, shards: list[Tensor], round_: int, roots: Sequence[Digest]
) -> Model:
    facts = RunFacts(
        name=run.spec.name,
        digest=run.spec_digest.hex(),
        round=round_,
        rounds=run.end_round,
        tokens=run.tokens,
        num_stages=run.spec.num_stages,
        roots=tuple(root.hex() for root in roots),
        base_roots=tuple(root.hex() for root in run.spec.adapter.base_roots),
    )
    tokenizer, adapter = _tokenizer(home, run.spec), run.spec.adapter
    if not adapter.rank:
        return Model(run.spec.model, joined(shards), round_, tokenizer, facts)
    whole = list[Tensor]()
    for plan, shard, root in zip(plans_of(run.spec), shards, adapter.base_roots, strict=True):
        assert plan.base is not None, "an adapter rests on weights"
        whole.append(merged(plan, shard, _shard(home, plan.base, root)))
    return Model(
        spec=run.spec.model,
        params_P=joined(whole),
        round=round_,
        tokenizer=tokenizer,
        facts=facts,
        adapter=adapter,
        adapter_P=joined(shards),
    )


def tokenizer_of(model: Model) -> Tokenizer:
    """Return the tokenizer of a model; raises ``BadConfig`` when its file is missing."""
    if not model.tokenizer and model.spec.vocab_size > BytesTokenizer.num_token_ids:
        raise BadConfig(
            f"a model of {model.spec.vocab_size} tokens needs its {TOKENIZER_FILE}, which is not there",
            hint="swarm export DIR, from a home that takes part in its run",
        )
    return load_tokenizer(model.tokenizer)


def tokenizer_of_run(home: Path) -> Tokenizer:
    """Return the tokenizer of the run of this home; raises ``Unreachable`` when it is not here."""
    return load_tokenizer(_tokenizer(home, run_of_home(home).spec))


def heldout_of_run(home: Path) -> tuple[Path, str]:
    """Return the held-out text of the run of this home: a file of tokens, checked, and its dtype.

    Raises ``Unreachable`` when it is not on this disk, and ``Corrupt`` when it is damaged.
    """
    spec: RunSpec = run_of_home(home).spec
    path = home / BLOBS / spec.data.heldout_root.hex()
    if not path.is_file():
        raise Unreachable(
            f"the held-out text of run {spec.name} is not on this disk",
            hint="swarm eval DIR --data FILE",
        )
    if root_of_file(path, spec.data.dtype, spec.data.num_token_ids) != spec.data.heldout_root:
        raise Corrupt(f"the held-out text of run {spec.name} is damaged", hint=f"rm {path}")
    return path, spec.data.dtype


def _tokenizer(home: Path, spec: RunSpec) -> bytes:
    """Return the tokenizer's file of a run, empty for bytes; raises ``Unreachable`` when it is not here."""
    root = spec.data.tokenizer_root
    if root == NO_DIGEST:
        return b""
    path = home / BLOBS / root.hex()
    if not path.is_file():
        raise Unreachable(f"the tokenizer of run {spec.name} is not on this disk", hint=_WAIT)
    raw = path.read_bytes()
    if tokenizer_root(raw) != root:
        raise Corrupt(f"the tokenizer of run {spec.name} is damaged", hint=f"rm {path}")
    return raw


def _shard(home: Path, plan: StagePlan, root: Digest) -> Tensor:
    path = home / BLOBS / root.hex()
    if not path.is_file():
        raise Unreachable(f"the weights {root.hex()[:12]} are not on this disk", hint=_WAIT)
    phi_P = decode_phi(path.read_bytes(), plan.num_parameters)
    if hash_of(phi_P) != root:
        raise Corrupt(f"the checkpoint {root.hex()[:12]} is damaged", hint=f"rm {path}")
    return phi_P
