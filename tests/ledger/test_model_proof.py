"""A folder's proof names the weights of every stage of one boundary, or proves nothing."""

import pytest

from swarm.errors import BadEncoding, PeerFault
from swarm.ledger.light import prove_entries
from swarm.ledger.model_proof import (
    ModelProof,
    model_keys,
    parse_model_proof,
    verify_model,
)
from swarm.ledger.state.draft import Draft
from swarm.ledger.transactions import PostCheckpoint
from swarm.ledger.transition.apply import begin_block
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.primitives.merkle import merkle_proof, merkle_root
from swarm.primitives.state_parts import COMPONENTS as NUM_PARTS
from swarm.primitives.state_parts import PHI
from swarm.testing.ledger import InMemoryLedger, small_run_spec
from swarm.types import RoundIndex, RunIndex, StageIndex

COMPONENTS = [digest("component", bytes([i])) for i in range(NUM_PARTS)]
ROUND = RoundIndex(2)


def a_model() -> tuple[InMemoryLedger, ModelProof]:
    """A lone launcher's checkpoint of both stages at round 2."""
    ledger = InMemoryLedger()
    run = ledger.reach_round(ledger.open_run(small_run_spec(rounds=20)), 1)
    ledger.block(*ledger.commit_all(run, 0))
    run = ledger.reach_round(run, 2)
    end, owner = merkle_root(COMPONENTS), ledger.keys[0]
    for stage in (0, 1):
        ledger.block(ledger.sign(owner, ledger.commit(run, 1, stage, 0, end_root=end)))
        body = PostCheckpoint(
            run=run.index,
            round=ROUND,
            stage=StageIndex(stage),
            seat=0,
            phi_root=COMPONENTS[PHI],
            phi_bytes=4,
            proof=tuple(merkle_proof(COMPONENTS, PHI)),
        )
        ledger.block(ledger.sign(owner, body))
    return ledger, proved(ledger, run.index)


def proved(ledger: InMemoryLedger, run: RunIndex) -> ModelProof:
    block, certificate = ledger.links[-1]
    keys = model_keys(run, ROUND, 2)
    light = prove_entries(ledger.state, block.header, certificate, [], keys)
    return ModelProof(ledger.genesis, run, ROUND, 2, light)


@pytest.mark.rule("L27a")
def test_the_weights_of_every_stage_are_named() -> None:
    ledger, model = a_model()
    found = verify_model(parse_model_proof(encode(model)))
    assert found.network == ledger.genesis.chain
    assert found.height == ledger.state.height
    assert (found.spec.name, found.round) == ("rehearsal", ROUND)
    assert found.roots == (COMPONENTS[PHI],) * 2


@pytest.mark.parametrize(
    "changes",
    [{"round": RoundIndex(3)}, {"run": RunIndex(2)}, {"num_stages": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_proof_of_something_else_is_refused(changes: dict[str, object]) -> None:
    _, model = a_model()
    with pytest.raises(PeerFault):
        verify_model(replace(model, **changes))


def test_a_proof_of_some_stages_is_none() -> None:
    _, model = a_model()
    light = replace(model.proof, entries=model.proof.entries[:2])
    with pytest.raises(PeerFault, match="not a checkpoint of every stage"):
        verify_model(replace(model, num_stages=1, proof=light))


@pytest.mark.rule("L44")
def test_a_checkpoint_of_a_convicted_peer_proves_nothing() -> None:
    ledger, model = a_model()
    draft: Draft = begin_block(ledger.state, leader=ledger.keys[0].peer, beta=bytes(64))
    run = draft.run(model.run)
    void = tuple(tuple(replace(c, is_void=True) for c in kept) for kept in run.checkpoints)
    draft.put_run(replace(run, checkpoints=void))
    state = draft.finish()
    block, certificate = ledger.links[-1]
    header = replace(block.header, state_root=state.root)
    light = prove_entries(state, header, certificate, [], model_keys(model.run, ROUND, 2))
    with pytest.raises(PeerFault):
        verify_model(replace(model, proof=light))


def test_what_is_no_proof_is_refused() -> None:
    _, model = a_model()
    for raw in (b"", b"junk", encode(model)[:-1], encode(replace(model, num_stages=0))):
        with pytest.raises(BadEncoding):
            parse_model_proof(raw)
