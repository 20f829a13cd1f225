"""Prove that the weights in a folder are a canonical checkpoint of a run, made final by a network's validators.

Core: pure functions over frozen structs; hashing the weights is the caller's.

The proof lies in the exported folder. It holds the genesis, so that nothing else is needed to check it but the
id of the network that its reader trusts.
"""

from dataclasses import dataclass

from swarm.config.spec import Genesis, RunSpec
from swarm.errors import BadEncoding, BrokenPromise
from swarm.ledger.light import LIGHT_PROOF_BYTES_MAX, LightProof, TrustedEpoch, verify_entries
from swarm.ledger.state.records import Checkpoint, Entry, RunHead
from swarm.ledger.state.runs import checkpoint_key, run_key
from swarm.ledger.state.state import check_genesis
from swarm.primitives.codec import Message, decode
from swarm.types import Digest, Height, RoundIndex, RunIndex

PROOF_FILE = "ledger_proof.bin"
STAGES_MAX = 255


class ModelProof(Message, frozen=True):
    """Proof of the checkpoints of all stages at one boundary of a run."""

    genesis: Genesis
    run: RunIndex
    round: RoundIndex
    num_stages: int
    proof: LightProof


@dataclass(frozen=True, slots=True)
class ProvedModel:
    """Contents of a proof that holds."""

    network: Digest
    """Chain id of the network; whether that is the right one, only its reader can say."""
    height: Height
    """Height of the final block under which it was proved."""
    spec: RunSpec
    round: RoundIndex
    roots: tuple[Digest, ...]
    """Hash of the weights of each stage."""


def model_keys(run: RunIndex, round_: int, num_stages: int) -> list[bytes]:
    """Return the keys of the entries that prove the checkpoints of a boundary."""
    stages = range(num_stages)
    return [run_key(run), *(checkpoint_key(run, stage, round_) for stage in stages)]


def parse_model_proof(data: bytes) -> ModelProof:
    """Decode a proof; raise ``BadEncoding`` if it is none or out of bounds."""
    model = decode(ModelProof, data, limit=2 * LIGHT_PROOF_BYTES_MAX)
    check_genesis(model.genesis)
    if not 1 <= model.num_stages <= STAGES_MAX:
        raise BadEncoding(f"a model of {model.num_stages} stages")
    return model


def verify_model(model: ModelProof, trusted: TrustedEpoch | None = None) -> ProvedModel:
    """Return what the proof says; raise ``PeerFault`` if it does not hold.

    With a ``trusted`` epoch the validators that hand over are followed from there, not from the genesis.
    """
    kinds: list[type[Entry]] = [RunHead, *[Checkpoint] * model.num_stages]
    keys = model_keys(model.run, model.round, model.num_stages)
    expected = list(zip(keys, kinds, strict=True))
    head, *kept = verify_entries(model.genesis, model.proof, expected, trusted)
    assert isinstance(head, RunHead), "decoded as one"
    if head.spec.num_stages != model.num_stages:
        raise BrokenPromise("not a checkpoint of every stage")
    roots = list[Digest]()
    for stage, checkpoint in enumerate(kept):
        assert isinstance(checkpoint, Checkpoint), "decoded as one"
        if checkpoint.is_void:
            raise BrokenPromise(
                f"the checkpoint of stage {stage} is void: what it goes back to was false, or not shown"
            )
        roots.append(checkpoint.phi_root)
    chain, height = model.genesis.chain, model.proof.outline.height
    return ProvedModel(chain, height, head.spec, model.round, tuple(roots))
