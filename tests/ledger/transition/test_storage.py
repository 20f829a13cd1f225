"""Checkpoints are held by peers of other stages, which show it in every epoch or are replaced."""

import dataclasses
import random

import pytest

from swarm.errors import Reason
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import RunPhase
from swarm.ledger.state.storage import receipts, storage_key
from swarm.ledger.storage_statements import LEAVES_DRAWN, STORAGE_PROOF_BYTES_MAX, StoreReceipt
from swarm.ledger.transactions import CloseRun, Leave
from swarm.ledger.transition.prices import (
    RESERVED_ROUNDS,
    check_pay,
    round_cost,
    segment_tokens_max,
    storage_pay,
)
from swarm.ledger.transition.storage import (
    ASKING,
    HOLDERS,
    PROOF_BLOCKS_MIN,
    RECEIPT_ROUNDS,
    content_of,
    holders_of,
    leaves_drawn,
    move_storage,
    proof_end,
    prove_storage,
)
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import digest
from swarm.primitives.openings import tensor_content
from swarm.testing.ledger import numbered_key
from swarm.types import Amount, Height, PeerId, RoundIndex, RunIndex, StageIndex
from tests.ledger.storing import EPOCH, SPEC, STAGE, Kept

# --- who holds a checkpoint ---


@pytest.mark.rule("L108")
def test_three_peers_of_other_stages_are_drawn_when_the_beacon_is_there() -> None:
    kept = Kept()
    posted, delay = kept.checkpoint.height, kept.state.params.beacon_delay
    kept.to_height(posted + delay - 1)
    assert not kept.storage.holders
    kept.to_height(posted + delay)
    assert len(set(kept.peers)) == HOLDERS == len(kept.peers)
    assert set(kept.peers) <= kept.seated(1) - kept.seated(0) - {kept.checkpoint.peer}
    assert {holder.drawn for holder in kept.storage.holders} == {posted + delay}
    assert not receipts(kept.storage)


@pytest.mark.rule("L108")
def test_a_run_with_one_stage_has_its_other_seats_hold_its_checkpoint() -> None:
    spec = replace(SPEC, num_stages=1, replicas_max=6, starts=SPEC.starts[:1])
    kept = Kept(spec, joiners=3)
    assert set(kept.draw()) == kept.seated(0) - {kept.checkpoint.peer}


@pytest.mark.rule("L108")
def test_who_is_alone_has_no_holder_until_somebody_comes() -> None:
    kept = Kept(joiners=0)
    kept.to_height(kept.state.height + EPOCH)
    assert kept.storage.holders == ()
    assert kept.storage.unheld == 0, "nobody was drawn who could have held it"


@pytest.mark.rule("L108")
def test_free_keys_are_drawn_only_where_nobody_else_can_hold_it() -> None:
    """Sybils: seats cost a stake, and volunteers come last."""
    spec = replace(SPEC, replicas_max=4)
    kept = Kept(spec, joiners=5, volunteers=4)
    free = {seat.peer for seat in kept.run.seats[1] if seat.is_volunteer}
    staked = kept.seated(1) - free - kept.seated(0)
    drawn = set(kept.draw())
    assert free, "a volunteer has a seat"
    assert drawn >= staked or not drawn & free


@pytest.mark.rule("L108")
def test_who_gives_no_receipt_is_replaced_and_loses_nothing() -> None:
    kept = Kept()
    first = kept.draw()
    kept.submit(kept.receipt(first[0]))
    account = kept.state.account(first[1])
    end = kept.storage.holders[1].drawn + RECEIPT_ROUNDS * SPEC.round_blocks
    kept.train_to(5)
    kept.to_height(end)
    assert kept.peers[0] == first[0]
    assert kept.storage.holders[0].receipt
    again = [holder for holder in kept.storage.holders if holder.drawn == end]
    assert {holder.peer for holder in again} == set(first[1:]), "there is nobody else"
    assert kept.state.contribution(kept.index, first[1]).proofs_missed == 0
    assert kept.state.account(first[1]).stake == account.stake


@pytest.mark.rule("L108")
def test_others_are_drawn_before_who_was_drawn_in_vain() -> None:
    kept = Kept(replace(SPEC, replicas_max=6), joiners=9)
    first = set(kept.draw())
    able = kept.seated(1) - kept.seated(0)
    assert len(able) >= HOLDERS + 1
    kept.train_to(5)
    kept.to_height(kept.storage.holders[0].drawn + RECEIPT_ROUNDS * SPEC.round_blocks)
    fresh = able - first
    assert set(kept.peers) >= fresh or set(kept.peers) <= fresh


@pytest.mark.rule("L108")
def test_who_leaves_the_run_or_comes_to_the_stage_itself_is_replaced() -> None:
    kept = Kept(replace(SPEC, replicas_max=5), joiners=8)
    peers = kept.hold()
    kept.tick(kept.ledger.sign(kept.ledger.key_of(peers[0]), Leave(kept.index)))
    kept.train_to(5)
    assert peers[0] not in kept.seated(1)
    kept.to_height(kept.storage.due)
    assert peers[0] not in kept.peers
    assert len(kept.peers) == HOLDERS
    assert kept.refused(kept.receipt(peers[0])) is Reason.WRONG_PEER
    draft = Draft(kept.state, kept.ledger.keys[0].peer)
    moved = kept.peers[0]
    seats = tuple(
        (*roster, replace(kept.run.seats[1][0], peer=moved)) if stage == STAGE else roster
        for stage, roster in enumerate(kept.run.seats)
    )
    draft.put_run(replace(kept.run, seats=seats))
    _look_now(draft, kept)
    changed = draft.storage(kept.index, STAGE, kept.round)
    assert changed is not None
    assert moved not in {holder.peer for holder in changed.holders}


def _look_now(draft: Draft, kept: Kept) -> None:
    """Move the storage of the case as if it were due now."""
    key = storage_key(kept.index, STAGE, kept.round)
    draft.changes[key] = replace(kept.storage, due=draft.height)
    move_storage(draft, kept.index, STAGE, kept.round)


@pytest.mark.rule("L108")
def test_nobody_holds_a_checkpoint_that_is_void_and_it_is_forgotten_with_its_stage() -> None:
    kept = Kept()
    kept.hold()
    draft = Draft(kept.state, kept.ledger.keys[0].peer)
    void = tuple(tuple(replace(c, is_void=True) for c in kept_) for kept_ in kept.run.checkpoints)
    draft.put_run(replace(kept.run, checkpoints=void))
    _look_now(draft, kept)
    found = draft.storage(kept.index, STAGE, kept.round)
    assert found is not None
    assert found.holders == ()


@pytest.mark.rule("L108")
def test_there_are_as_many_storages_as_checkpoints() -> None:
    kept = Kept(
        replace(SPEC, checkpoint_rounds=1, checks=replace(SPEC.checks, challenge_window_blocks=80))
    )
    for round_ in range(5, 60):
        kept.train_to(round_)
        if kept.run.phase is not RunPhase.TRAINING:
            break
        kept.post(round_)
    listed = {(s, c.round) for s, stage in enumerate(kept.run.checkpoints) for c in stage}
    held = {key for key, _ in kept.state.entries.items() if key[:1] == b"m"}
    assert kept.round not in {round_ for _, round_ in listed}, "the first is forgotten"
    assert len(held) == len(listed)
    assert kept.refused(kept.receipt(kept.ledger.keys[1].peer)) is Reason.WRONG_ROUND


# --- receipts and proofs ---


@pytest.mark.rule("L109")
def test_a_holder_shows_what_an_epoch_draws_and_keeps_its_receipt() -> None:
    kept = Kept()
    peers = kept.hold()
    assert kept.storage.asked == 0
    kept.ask()
    assert kept.state.height % EPOCH < EPOCH // ASKING
    assert kept.storage.seed == kept.state.beacon
    for peer in peers:
        kept.submit(kept.proof(peer))
        assert kept.state.contribution(kept.index, peer).proofs == 1
    kept.to_height(proof_end(kept.state.params, kept.storage))
    assert kept.peers == peers
    assert all(holder.proven > kept.storage.asked for holder in kept.storage.holders)
    assert holders_of(kept.state, kept.index, STAGE, kept.round)[0] == peers[-1]
    assert holders_of(kept.state, kept.index, STAGE, 99) == []


@pytest.mark.rule("L109")
def test_who_shows_nothing_loses_its_receipt_but_no_stake_and_another_is_drawn() -> None:
    """A node that restarts at the wrong time: one count, and its stake is as it was."""
    kept = Kept()
    silent, *others = kept.hold()
    stake = kept.state.account(silent).stake
    kept.ask()
    for peer in others:
        kept.submit(kept.proof(peer))
    end = proof_end(kept.state.params, kept.storage)
    late = kept.proof(silent)
    kept.to_height(end - 1)
    assert silent in kept.peers
    assert kept.refused(late) in {Reason.WRONG_PEER, Reason.WRONG_PHASE, Reason.DUPLICATE}
    kept.tick()
    work = kept.state.contribution(kept.index, silent)
    assert (work.proofs, work.proofs_missed) == (0, 1)
    assert kept.state.account(silent).stake == stake
    mine = next(holder for holder in kept.storage.holders if holder.peer == silent)
    assert (mine.drawn, mine.receipt) == (end, 0), "there is nobody else: it may try again"
    assert kept.storage.unheld == 0
    kept.submit(kept.receipt(silent))
    assert silent in holders_of(kept.state, kept.index, STAGE, kept.round)


@pytest.mark.rule("L109", "L1")
def test_every_statement_out_of_turn_is_refused_and_changes_nothing() -> None:
    kept = Kept()
    stranger = numbered_key(30)
    peer = kept.draw()[0]
    key, receipt = kept.ledger.key_of(peer), kept.receipt(peer)
    assert kept.refused(kept.receipt(stranger.peer), stranger) is Reason.WRONG_PEER
    assert kept.refused(receipt, stranger) is Reason.BAD_SIGNATURE
    assert kept.refused(replace(receipt, round=RoundIndex(6))) is Reason.WRONG_ROUND
    assert kept.refused(replace(receipt, stage=StageIndex(7))) is Reason.WRONG_ROUND
    assert kept.refused(replace(receipt, run=RunIndex(9))) is Reason.UNKNOWN_RUN
    assert kept.refused(kept.proof(peer)) is Reason.DUPLICATE, "nothing is asked for"
    kept.submit(receipt)
    assert kept.refused(receipt) is Reason.DUPLICATE
    kept.ask()
    proof = kept.proof(peer)
    assert kept.refused(proof, stranger) is Reason.BAD_SIGNATURE
    assert kept.refused(replace(proof, asked=Height(proof.asked - EPOCH))) is Reason.WRONG_PHASE
    first = proof.leaves[0]
    flipped = bytes([first.data[0] ^ 1]) + first.data[1:]
    bad = (
        (replace(first, data=flipped), *proof.leaves[1:]),
        (replace(first, path=first.path[1:]), *proof.leaves[1:]),
        (replace(first, path=(*first.path, bytes(32))), *proof.leaves[1:]),
        (replace(first, start=first.start + 1), *proof.leaves[1:]),
        (replace(first, start=1 << 50), *proof.leaves[1:]),
        (replace(first, start=-1), *proof.leaves[1:]),
        (replace(first, data=first.data[:-1]), *proof.leaves[1:]),
        proof.leaves[1:],
        (first, first, *proof.leaves[1:])[:LEAVES_DRAWN],
        proof.leaves[::-1],
    )
    for leaves in bad:
        assert kept.refused(replace(proof, leaves=leaves)) is Reason.BAD_PROOF
    for leaves in (
        (),
        (first,) * (LEAVES_DRAWN + 1),
        (replace(first, data=bytes(1025)),),
        (replace(first, data=b""),),
        (replace(first, path=(bytes(32),) * 65),),
        (replace(first, path=(bytes(31),)),),
    ):
        assert kept.refused(replace(proof, leaves=leaves)) is Reason.BAD_FIELD
    assert kept.refused(replace(proof, holder=PeerId(bytes(31))), key) is Reason.BAD_FIELD
    kept.submit(proof)
    assert kept.refused(proof) is Reason.DUPLICATE


@pytest.mark.rule("L109")
def test_a_proof_that_is_copied_from_another_holder_is_none() -> None:
    kept = Kept()
    first, second, _ = kept.hold()
    kept.ask()
    seen = kept.proof(first)
    kept.submit(seen)
    assert kept.refused(replace(seen, holder=second)) is Reason.BAD_PROOF
    assert kept.refused(replace(seen, holder=second), kept.ledger.key_of(first)) is (
        Reason.BAD_SIGNATURE
    )


@pytest.mark.rule("L109")
def test_a_proof_of_the_epoch_before_is_none_in_the_next() -> None:
    kept = Kept()
    peer = kept.hold()[0]
    kept.ask()
    old = kept.proof(peer)
    for one in kept.peers:
        kept.submit(kept.proof(one))
    kept.train_to(6)
    kept.ask()
    assert kept.refused(old) is Reason.WRONG_PHASE
    new = kept.proof(peer)
    assert new.leaves != old.leaves
    assert kept.refused(replace(old, asked=new.asked)) is Reason.BAD_PROOF


@pytest.mark.rule("L109")
def test_only_the_newest_checkpoint_that_is_held_is_asked_for() -> None:
    """A poster that posts weights which nobody can fetch leaves the one before asked for, and held."""
    kept = Kept(replace(SPEC, rounds=80))
    kept.hold()
    kept.train_to(5)
    kept.ask()
    for peer in kept.peers:
        kept.submit(kept.proof(peer))
    kept.train_to(6)
    kept.post(6)
    kept.ask()
    asked = kept.storage.asked
    for peer in kept.peers:
        kept.submit(kept.proof(peer))
    old = kept.round
    kept.round = RoundIndex(6)
    assert kept.storage.asked == 0, "nobody holds the newer one"
    kept.hold()
    kept.ask()
    assert kept.storage.asked > asked
    kept.round = old
    assert kept.storage.asked == asked
    assert len(receipts(kept.storage)) == HOLDERS, "its receipts stand"


@pytest.mark.rule("L109")
def test_time_to_show_leaves_is_half_an_epoch_and_never_longer_than_one() -> None:
    kept = Kept()
    storage = replace(kept.storage, asked=Height(80))
    for epoch, blocks in ((720, 360), (40, PROOF_BLOCKS_MIN), (10, 10)):
        params = replace(kept.state.params, epoch_blocks=epoch)
        assert proof_end(params, storage) == 80 + blocks


@pytest.mark.rule("L109")
def test_a_settled_run_asks_nobody_any_more_and_its_holders_stay_known() -> None:
    kept = Kept()
    peers = kept.hold()
    kept.tick(kept.ledger.sign(kept.ledger.keys[0], CloseRun(kept.index)))
    for _ in range(20 * SPEC.round_blocks):
        kept.tick()
        if kept.run.phase is RunPhase.SETTLED:
            break
    known = kept.peers
    kept.to_height(kept.state.height + 2 * EPOCH)
    assert kept.run.phase is RunPhase.SETTLED
    assert kept.storage.due == 0
    assert kept.peers == known
    assert kept.refused(kept.receipt(peers[0])) in {Reason.WRONG_PHASE, Reason.WRONG_PEER}


# --- what it costs, and what it finds ---


@pytest.mark.rule("L110")
def test_a_proven_epoch_pays_one_check_out_of_what_the_escrow_can_spare() -> None:
    kept = Kept()
    peer = kept.hold()[0]
    kept.ask()
    run, params, before = kept.run, kept.state.params, kept.state.account(peer)
    pay = check_pay(params, SPEC, segment_tokens_max(SPEC, 1), SPEC.inner_steps_max)
    kept.submit(kept.proof(peer))
    after = kept.state.account(peer)
    assert kept.run.escrow == run.escrow - pay
    assert after.balance + after.stake == before.balance + before.stake + pay


@pytest.mark.rule("L110")
def test_an_escrow_that_rounds_under_way_may_need_pays_no_holder() -> None:
    params, seats = Kept().state.params, 6
    reserve = RESERVED_ROUNDS * round_cost(params, SPEC, seats)
    assert storage_pay(params, SPEC, 0, seats) == 0
    assert storage_pay(params, SPEC, reserve, seats) == 0
    assert storage_pay(params, SPEC, reserve + 3, seats) == 3
    most = check_pay(params, SPEC, segment_tokens_max(SPEC, 1), SPEC.inner_steps_max)
    assert storage_pay(params, SPEC, 10**12, seats) == most


@pytest.mark.rule("L110")
def test_a_free_key_that_holds_earns_into_its_stake() -> None:
    spec = replace(SPEC, replicas_max=4)
    kept = Kept(spec, joiners=1, volunteers=3)
    free = {seat.peer for roster in kept.run.seats for seat in roster if seat.is_volunteer}
    peer = next(peer for peer in kept.hold() if peer in free)
    kept.ask()
    kept.submit(kept.proof(peer))
    account = kept.state.account(peer)
    assert account.balance == 0
    assert account.locked == account.stake > 0


@pytest.mark.rule("L110")
def test_a_receipt_without_a_proof_earns_nothing() -> None:
    """A holder that holds nothing: no epoch pays it."""
    kept = Kept()
    peer = kept.hold()[0]
    before = _not_trained_for(kept, peer)
    kept.ask()
    kept.to_height(proof_end(kept.state.params, kept.storage))
    assert _not_trained_for(kept, peer) == before
    assert kept.state.contribution(kept.index, peer).proofs == 0


def _not_trained_for(kept: Kept, peer: PeerId) -> int:
    """Return what a peer has beside the pay of its segments."""
    account, work = kept.state.account(peer), kept.state.contribution(kept.index, peer)
    return account.balance + account.stake - work.earned


@pytest.mark.rule("L110")
def test_weights_that_nobody_can_fetch_are_marked_as_held_by_nobody() -> None:
    """A poster that posts a root and serves it to nobody: no receipt comes, and the ledger says so."""
    kept = Kept()
    kept.draw()
    drawn = kept.storage.holders[0].drawn
    end = drawn + RECEIPT_ROUNDS * SPEC.round_blocks
    kept.train_to(5)
    kept.to_height(end - 1)
    assert kept.storage.unheld == 0
    kept.tick()
    assert kept.storage.unheld == end
    kept.submit(kept.receipt(kept.peers[0]))
    assert kept.storage.unheld == 0


@pytest.mark.rule("L110")
def test_who_lacks_a_fifth_is_missed_in_one_epoch_of_thirty_six() -> None:
    """The odds by formula, and by real draws over weights of 4 MB of which a fifth is gone."""
    content = tensor_content("float32", (1_000_000,), 4_000_000)
    missed_by_formula = 0.8**LEAVES_DRAWN
    assert round(missed_by_formula, 3) == 0.028
    dice, trials, missed = random.Random(0), 2_000, 0
    place = StoreReceipt(RunIndex(1), RoundIndex(2), STAGE, numbered_key(0).peer)
    gone = {leaf for leaf in range(4_000) if dice.random() < 0.2}
    for trial in range(trials):
        drawn = leaves_drawn(content, digest("epoch", trial.to_bytes(8, "big")), place)
        missed += not any(start // 1_000 in gone for start, _ in drawn)
    assert abs(missed / trials - missed_by_formula) < 0.012


@pytest.mark.rule("L109")
def test_leaves_are_drawn_evenly_for_each_holder_anew() -> None:
    content = tensor_content("float32", (1_000_000,), 4_000_000)
    peers = [numbered_key(number).peer for number in range(2)]
    places = [StoreReceipt(RunIndex(1), RoundIndex(2), STAGE, peer) for peer in peers]
    seeds = [digest("epoch", number.to_bytes(8, "big")) for number in range(400)]
    assert leaves_drawn(content, seeds[0], places[0]) != leaves_drawn(content, seeds[0], places[1])
    starts = [start for seed in seeds for start, _ in leaves_drawn(content, seed, places[0])]
    quarters = [sum(q <= start / 1_000_000 < q + 1 for start in starts) for q in range(4)]
    assert min(quarters) > 0.9 * max(quarters)
    tiny = tensor_content("float32", (1,), 4)
    assert leaves_drawn(tiny, seeds[0], places[0]) == [(0, 4)]


@pytest.mark.rule("L109")
def test_a_proof_of_large_weights_fits_a_statement() -> None:
    """Weights of 64 MB are 64 parts; a path grows by 32 bytes when they double."""
    kept = Kept()
    num_bytes = 64 << 20
    checkpoint = replace(kept.checkpoint, phi_bytes=num_bytes)
    storage = replace(kept.storage, asked=Height(80), seed=digest("seed", b""))
    proof = prove_storage(
        checkpoint, storage, kept.receipt(kept.ledger.keys[1].peer), memoryview(bytes(num_bytes))
    )
    longest = max(len(leaf.path) for leaf in proof.leaves)
    more = LEAVES_DRAWN * 32 * 14  # 1 TiB
    assert longest <= 11 + 6
    assert len(encode(proof)) + more < STORAGE_PROOF_BYTES_MAX
    assert content_of(checkpoint).parts == 64


@pytest.mark.rule("L110")
def test_a_run_without_money_has_its_checkpoints_held_all_the_same() -> None:
    kept = Kept()
    peer = kept.hold()[0]
    kept.ask()
    draft = Draft(kept.state, kept.ledger.keys[0].peer)
    draft.put_run(replace(kept.run, escrow=Amount(0)))
    draft.credit(kept.run.owner, kept.run.escrow)
    kept.ledger.head = dataclasses.replace(kept.ledger.head, state=draft.finish())
    before = kept.state.account(peer).balance
    kept.submit(kept.proof(peer))
    (holder,) = (holder for holder in kept.storage.holders if holder.peer == peer)
    assert holder.proven == kept.state.height
    assert kept.state.account(peer).balance <= before, "nothing is paid"
