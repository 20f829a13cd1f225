"""Choose the validators of each epoch, count the views they miss, and judge evidence of double signing.

Core: handlers on a draft. Raises ``InvalidStatement``.

    Validate --snapshot at the end of epoch E--> votes in epoch E + 2 --again and again--> until it withdraws,
    has less than the least stake, misses ``MISSES_MAX`` of its views in a row, or signed two ways

The snapshot is taken when the last block of an epoch begins, before its transactions. Power is the stake, and
where four or more are chosen none holds a third of it: no validator can stop the ledger alone, the founder
included. With fewer than four the validators stay who they are, as far as they still qualify, with the power
they had: two or three strangers beside a founder would make the ledger easier to stop, and no harder to bend,
and a founder must not get its own back when one of four leaves.

Source: docs/spec/ledger.md section 2.
"""

from collections.abc import Sequence

from swarm.errors import BadSignature, InvalidStatement, Reason
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    VALIDATORS_MAX,
    VOTE_PURPOSES,
    Validator,
    epoch_of,
    is_last_of_epoch,
    vote_parts,
)
from swarm.ledger.leaders import LeaderSchedule
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import Council, Equivocator
from swarm.ledger.state.state import Reader
from swarm.ledger.transactions import Evidence, SignedVote, Validate
from swarm.primitives.codec import replace
from swarm.primitives.crypto import verify
from swarm.types import Amount, Height, PeerId, View

INDEPENDENT_MIN = 4
"""Validators from which on the ledger goes on without any one of them."""

CANDIDATES_MAX = 4 * VALIDATORS_MAX
"""Offers to validate at one time; when they are full, one with more stake replaces the one with least."""

MISSES_MAX = 3
"""Views of a validator skipped in a row, without a block of its own, after which its offer is void."""

SKIPPED_COUNTED_MAX = 4 * VALIDATORS_MAX
"""Skipped views before one block that are counted: after a long stall every leader has missed enough."""

WITNESS_PERCENT = 5
"""Percent of an equivocator's stake for the sender of the evidence; the rest is burned."""


def turn_view(draft: Draft, view: View, leader: PeerId) -> None:
    """Note the view of the block that begins, and whose views were skipped before it."""
    globals_, council = draft.globals, draft.council
    skipped = view - globals_.view - 1
    draft.put_globals(replace(globals_, view=view, num_skipped=globals_.num_skipped + skipped))
    missed = list(council.skipped)
    if skipped:
        schedule = LeaderSchedule(council.seed, council.current)
        for late in range(max(globals_.view + 1, view - SKIPPED_COUNTED_MAX), view):
            missed[schedule.leader(View(late))] += 1
    for index, validator in enumerate(council.current):
        if validator.peer == leader:
            missed[index] = 0
    if tuple(missed) != council.skipped:
        draft.put_council(replace(council, skipped=tuple(missed)))


def turn_epoch(draft: Draft) -> None:
    """Hand over to the next validators at the last block of an epoch, and choose those after them."""
    globals_, council = draft.globals, draft.council
    if not is_last_of_epoch(globals_.params.epoch_blocks, draft.height):
        return
    missed = {
        validator.peer: count
        for validator, count in zip(council.current, council.skipped, strict=True)
    }
    gone = {peer for peer, count in missed.items() if count >= MISSES_MAX}
    if 3 * _power(council.current, gone) >= _power(council.current, set(missed)):
        gone = set()  # a stall: a quorum has just voted, so they are not gone
    candidates = tuple(peer for peer in council.candidates if peer not in gone)
    after = choose(draft, candidates, council.next)
    draft.put_council(
        Council(
            previous=council.current,
            current=council.next,
            next=after,
            seed=globals_.beacon,
            skipped=tuple(
                0 if validator.peer in gone else missed.get(validator.peer, 0)
                for validator in council.next
            ),
            candidates=candidates,
        )
    )
    draft.put_globals(replace(globals_, view=View(0)))


def choose(
    reader: Reader, candidates: Sequence[PeerId], before: Sequence[Validator]
) -> tuple[Validator, ...]:
    """Return the validators that these candidates make, sorted by peer; ``before`` are the latest so far."""
    least = reader.globals.params.validator_stake
    stakes = {peer: reader.account(peer).stake for peer in candidates}
    able = sorted(
        (peer for peer in candidates if stakes[peer] >= least), key=lambda p: (-stakes[p], p)
    )
    if len(able) < INDEPENDENT_MIN:
        power = {validator.peer: validator.power for validator in before}
        able = [peer for peer in able if peer in power] or able
        few = (
            Validator(peer, min(stakes[peer], power.get(peer, stakes[peer])))
            for peer in sorted(able)
        )
        return tuple(few) or tuple(before)
    able = able[:VALIDATORS_MAX]
    limit = power_limit([stakes[peer] for peer in able])
    return tuple(Validator(peer, Amount(min(stakes[peer], limit))) for peer in sorted(able))


def power_limit(stakes: Sequence[int]) -> int:
    """Return the greatest limit under which no stake is a third of all: of four or more, the greatest first."""
    for capped in (0, 1):
        # With ``capped`` stakes cut to c, and the others left as they are: 3 c < capped * c + rest.
        limit = (sum(stakes[capped:]) - 1) // (3 - capped)
        if limit >= stakes[capped]:
            return limit
    return sum(stakes[2:]) - 1


def offer(draft: Draft, sender: PeerId, body: Validate) -> None:
    """Add the sender to the candidates, or take it from them."""
    council = draft.council
    candidates = set(council.candidates)
    if (sender in candidates) == body.is_on:
        said = "offered" if body.is_on else "not offered"
        raise InvalidStatement(Reason.DUPLICATE, f"it has {said} to validate")
    if not body.is_on:
        _withdraw(draft, sender)
        return
    if draft.equivocator(sender) is not None:
        raise InvalidStatement(Reason.WRONG_PEER, "it signed two ways, and may validate no more")
    stake, least = draft.account(sender).stake, draft.globals.params.validator_stake
    if stake < least:
        raise InvalidStatement(Reason.STAKE, f"{stake} where a validator has {least}")
    if len(candidates) >= CANDIDATES_MAX:
        poorest = min(candidates, key=lambda peer: (draft.account(peer).stake, peer))
        if draft.account(poorest).stake >= stake:
            raise InvalidStatement(Reason.FULL, f"{CANDIDATES_MAX} offer more")
        candidates.remove(poorest)
    candidates.add(sender)
    # Misses stay counted: withdrawing and offering again would be a way to miss for ever.
    draft.put_council(replace(council, candidates=tuple(sorted(candidates))))


def _power(validators: Sequence[Validator], peers: set[PeerId]) -> int:
    return sum(validator.power for validator in validators if validator.peer in peers)


def locked_stake(reader: Reader, peer: PeerId) -> int:
    """Return the stake that a peer may not withdraw.

    It votes with it now or in the next epoch, or earned it as a volunteer.
    """
    account, sets = reader.account(peer), (reader.council.current, reader.council.next)
    power = max((v.power for voting in sets for v in voting if v.peer == peer), default=0)
    return min(max(power, account.locked), account.stake)


def convict(draft: Draft, sender: PeerId, body: Evidence) -> None:
    """Take the whole stake of a validator that signed two conflicting votes, and bar it for good."""
    peer, params = body.peer, draft.globals.params
    epoch = epoch_of(params.epoch_blocks, draft.height)
    if not epoch - params.unbonding_epochs <= body.epoch <= epoch:
        raise InvalidStatement(Reason.EXPIRED, f"evidence of epoch {body.epoch} in epoch {epoch}")
    if draft.equivocator(peer) is not None:
        raise InvalidStatement(Reason.DUPLICATE, "it is convicted already")
    if not conflict(body.first, body.second):
        raise InvalidStatement(Reason.BAD_FIELD, "an honest validator may sign both votes")
    account = draft.live_account(peer)
    if not account.stake and not account.unbonding:
        raise InvalidStatement(Reason.STAKE, "the accused has no stake")
    for vote in (body.first, body.second):
        parts = vote_parts(draft.globals.chain, body.epoch, body.view, vote.block)
        try:
            verify(peer, vote.signature, VOTE_PURPOSES[vote.kind], *parts)
        except BadSignature as error:
            raise InvalidStatement(Reason.BAD_SIGNATURE, str(error)) from None
    taken = draft.take_stake(peer, 100)
    reward = taken * WITNESS_PERCENT // 100 if sender != peer else 0
    draft.credit(sender, reward)
    draft.burn(taken - reward)
    height = Height(draft.height)
    draft.put_equivocator(peer, Equivocator(body.epoch, body.view, height, taken))
    _withdraw(draft, peer)


def _withdraw(draft: Draft, peer: PeerId) -> None:
    council = draft.council
    left = tuple(other for other in council.candidates if other != peer)
    draft.put_council(replace(council, candidates=left))


def conflict(first: SignedVote, second: SignedVote) -> bool:
    """Return True if no honest validator signs both votes in one view, in whichever order."""
    kinds = {first.kind, second.kind}
    if kinds == {NULLIFY, FINALIZE}:
        return True
    return len(kinds) == 1 and kinds <= {NOTARIZE, FINALIZE} and first.block != second.block
