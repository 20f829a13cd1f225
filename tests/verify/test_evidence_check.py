"""Evidence convinces a stranger who has nothing but the file and the genesis, or it is refused by name."""

import random
from functools import cache

import numpy as np
import pytest

from swarm.errors import BadConfig, BadEncoding, BrokenPromise, PeerFault
from swarm.ledger.light import trusted_epoch
from swarm.ledger.state.records import RunPhase, SegmentPhase, SegmentRecord
from swarm.ledger.state.runs import changed_entries
from swarm.ledger.state.state import segment_key
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.testing.ledger import make_genesis, numbered_key
from swarm.types import Digest, RoundIndex
from swarm.verify.audit import AuditResult, AuditVerdict
from swarm.verify.edges import encode_list
from swarm.verify.evidence import (
    Evidence,
    read_evidence,
)
from swarm.verify.evidence_check import Proved, convince, prove, stale
from tests.training.pipeline import TEXT
from tests.verify.evidence_world import LIE, World, a_world, file_of, judged, reader, result_of


@cache
def lying() -> tuple[World, Evidence]:
    world = a_world()
    return world, world.shown(world.lying())


def verdict_of(evidence: Evidence) -> AuditVerdict:
    found = judged(file_of(evidence))
    assert found is not None
    return found.verdict


def read_back(raw: bytes) -> Evidence:
    return read_evidence(reader(raw))


def refused(evidence: Evidence, cause: str) -> None:
    with pytest.raises(PeerFault, match=cause):
        found_in(file_of(evidence))


def found_in(raw: bytes) -> AuditResult:
    kept = read_back(raw)
    return convince(kept, prove(kept))


# --- verdicts ---


@pytest.mark.rule("V43")
def test_a_lie_is_shown_to_a_stranger_who_has_the_file_alone() -> None:
    world, evidence = lying()
    kept = read_back(file_of(evidence))
    proved = prove(kept)
    assert (proved.network, proved.spec) == (world.ledger.genesis.chain, world.crop.spec)
    assert (proved.record.claims, proved.key.window) == (world.lying().claims, LIE)
    assert proved.record.peer == world.solver.peer
    found = convince(kept, proved)
    assert found.verdict is AuditVerdict.FRAUD
    assert found.found == result_of(world).claim != found.claim
    assert found.lines[1] == "its log gives another result than the one it has shown"


@pytest.mark.rule("V43")
@pytest.mark.parametrize("window", [0, 1, 2])
def test_the_log_of_an_honest_window_shows_that_it_is_honest(window: int) -> None:
    """The first one takes up the checkpoint of the round, the others go on against it."""
    world = a_world()
    assert verdict_of(world.shown(world.record(), window=window)) is AuditVerdict.HONEST


def test_the_weights_below_an_adapter_are_in_the_file() -> None:
    world = a_world(rank=4)
    honest = world.shown(world.record())
    assert verdict_of(honest) is AuditVerdict.HONEST
    assert verdict_of(world.shown(world.lying())) is AuditVerdict.FRAUD
    refused(replace(honest, weights=honest.weights[:-1]), "without the weights below the adapter")


def test_before_the_reveal_only_the_end_and_the_impossible_tell() -> None:
    world = a_world()
    silent = world.record(claims=(), phase=SegmentPhase.POSTED)
    assert verdict_of(world.shown(silent)) is AuditVerdict.NOT_REVEALED
    assert verdict_of(world.shown(silent, log=b"no log")) is AuditVerdict.REFUSED
    elsewhere = replace(silent, end_root=digest("lie", b"end"))
    assert verdict_of(world.shown(elsewhere, window=2)) is AuditVerdict.FRAUD


def test_what_no_honest_seat_writes_is_refused_without_a_text() -> None:
    world = a_world()
    found = judged(file_of(replace(world.shown(world.record(), log=b"no log"), chunks={})))
    assert found is not None
    assert found.verdict is AuditVerdict.REFUSED
    assert "cannot be an honest one" in found.lines[0]


def test_a_trusted_epoch_takes_the_place_of_the_genesis() -> None:
    world, evidence = lying()
    known = trusted_epoch(0, world.state.validators)
    assert prove(evidence, known).height == world.state.height
    with pytest.raises(BrokenPromise):
        prove(evidence, replace(known, digest=digest("other", b"")))


# --- forged and damaged files ---


@pytest.mark.rule("V44")
def test_no_flipped_bit_makes_another_verdict() -> None:
    """Anywhere in the file: it is refused, or says what it said."""
    rng = random.Random(7)
    world = a_world()
    for evidence in (lying()[1], world.shown(world.record())):
        raw, true = file_of(evidence), verdict_of(evidence)
        head = int.from_bytes(raw[8:12], "big")
        places = [rng.randrange(8 * (12 + head)) for _ in range(150)]
        places += [rng.randrange(8 * len(raw)) for _ in range(150)]
        places += [8 * (len(raw) - 1 - rng.randrange(4000)) for _ in range(50)]
        for place in places:
            bent = bytearray(raw)
            bent[place // 8] ^= 1 << place % 8
            found = judged(bytes(bent))
            assert found is None or found.verdict is true, place


@pytest.mark.rule("V44")
def test_a_file_of_another_network_proves_nothing_under_this_genesis() -> None:
    _, evidence = lying()
    refused(replace(evidence, genesis=make_genesis(5, 2)), "final|signed|validators")


def test_an_owner_of_another_key_cannot_sign_a_log_for_the_solver() -> None:
    world = a_world()
    refused(world.shown(world.record(), log=b"no log", signer=numbered_key(9)), "not signed by")


@pytest.mark.rule("V44")
def test_a_header_that_is_not_final_proves_nothing() -> None:
    """Votes of too few validators, or for another block."""
    world, evidence = lying()
    votes = evidence.proof.votes
    few = replace(votes, bitmap=1, signatures=votes.signatures[:64])
    refused(replace(evidence, proof=replace(evidence.proof, votes=few)), "power|quorum|votes")
    outline = replace(evidence.proof.outline, state_root=digest("forged", b""))
    refused(replace(evidence, proof=replace(evidence.proof, outline=outline)), "signed|vote")
    assert world.state.height == evidence.proof.outline.height


def test_a_window_or_a_seat_that_was_not_proved_is_refused() -> None:
    _, evidence = lying()
    for changes in ({"window": 2}, {"seat": 1}, {"stage": 0}, {"round": 2}, {"run": 2}):
        manifest = replace(evidence.manifest, **changes)
        with pytest.raises(PeerFault):
            prove(replace(evidence, manifest=manifest))
    for changes in ({"window": 999}, {"run": 1 << 70}, {"round": -1}):
        manifest = replace(evidence.manifest, **changes)
        with pytest.raises(BadEncoding):
            prove(replace(evidence, manifest=manifest))


def test_leaving_out_the_checkpoint_that_an_honest_log_needs_is_no_fraud() -> None:
    """A maker of evidence cannot make an anchor look as if it was not canonical."""
    world = a_world()
    evidence = world.shown(world.record())
    refused(replace(evidence, weights=()), "without the checkpoint")
    proof = replace(evidence.proof, entries=evidence.proof.entries[:-1])
    refused(replace(evidence, checkpoint_rounds=(), proof=proof), "not all checkpoints")
    other = replace(evidence, checkpoint_rounds=(RoundIndex(2),))
    refused(other, "lead to its root")


def test_leaving_out_the_text_is_no_fraud() -> None:
    world = a_world()
    evidence = replace(world.shown(world.record()), chunks={})
    kept = read_back(file_of(evidence))
    with pytest.raises(BadConfig, match="is missing") as caught:
        convince(kept, prove(kept))
    assert "--data" in caught.value.hint
    tokens = np.frombuffer(TEXT, np.uint8)
    assert convince(kept, prove(kept), tokens).verdict is AuditVerdict.HONEST


def test_another_text_list_or_weights_are_refused() -> None:
    world = a_world()
    honest = world.shown(world.record())
    refused(replace(honest, chunks={0: b"x" + TEXT[1:]}), "chunk 0 of the text is not that")
    refused(replace(honest, chunks={1: TEXT}), "does not have")
    refused(replace(honest, chunk_hashes=bytes(32)), "another number of chunks")
    refused(replace(honest, sent=encode_list(())), "not the list of its commit")
    refused(replace(honest, weights=(b"1234",)), "weights of 4 bytes")
    bent = bytes(4) + bytes(honest.weights[0][4:])
    refused(replace(honest, weights=(bent,)), "without the checkpoint")


def test_a_log_longer_than_its_solver_signed_is_refused() -> None:
    """No peer would have fetched it: it is not what the solver served."""
    world = a_world()
    evidence = world.shown(world.record())
    refused(replace(evidence, log=bytes(evidence.log) + b"x"), "longer than its solver signed")


# --- too late to report ---


def proved_lie() -> tuple[World, Proved]:
    world = a_world()
    return world, prove(world.shown(world.lying()))


def test_fresh_evidence_can_be_reported() -> None:
    world, proved = proved_lie()
    assert stale(world.state, proved) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"phase": SegmentPhase.GUILTY}, "it is proven false already"),
        ({"phase": SegmentPhase.SAMPLED}, "its verifiers come first"),
        ({"judged": (LIE,)}, f"window {LIE} was judged already"),
        ({"peer": bytes(32)}, "another segment"),
        ({"height": -2_000, "shown_height": -2_000}, "its challenge window passed at height"),
    ],
)
def test_stale_evidence_is_refused_by_name(changes: dict[str, object], reason: str) -> None:
    world, proved = proved_lie()
    now: SegmentRecord = replace(proved.record, **changes)
    world.put({segment_key(now.run, now.round, now.stage, now.seat): now})
    assert reason in stale(world.state, proved)


def test_what_the_ledger_has_forgotten_or_settled_is_stale() -> None:
    world, proved = proved_lie()
    where = proved.record
    settled = replace(world.run, phase=RunPhase.SETTLED)
    world.put({segment_key(where.run, where.round, where.stage, where.seat): None})
    assert "challenge window has passed" in stale(world.state, proved)
    world.put(changed_entries(world.run, settled))
    assert "is settled" in stale(world.state, proved)
    other = replace(world.run, spec_digest=Digest(bytes(32)))
    world.put(changed_entries(settled, other))
    assert "no such run" in stale(world.state, proved)
