"""Shares are given and taken in three entries at once, so that their sum is what the parts say."""

import pytest

from swarm.ledger.state.draft import Draft
from swarm.ledger.state.shares import NO_SHARES, RunShares, backing_key, shares_key
from swarm.ledger.state.state import decode_state, encode_state
from swarm.primitives.codec import replace
from swarm.testing.ledger import InMemoryLedger
from swarm.types import RunIndex

RUN, OTHER = RunIndex(1), RunIndex(2)


@pytest.mark.rule("L75")
def test_a_run_without_verified_work_has_no_entry_and_keys_do_not_meet() -> None:
    ledger = InMemoryLedger()
    peer = ledger.keys[1].peer
    assert ledger.state.run_shares(RUN) == NO_SHARES
    assert ledger.state.get(shares_key(RUN)) is None
    keys = {
        shares_key(RUN), shares_key(OTHER), backing_key(RUN, 0, peer),
        backing_key(RUN, 1, peer), backing_key(OTHER, 0, peer),
    }  # fmt: skip
    assert len(keys) == 5


@pytest.mark.rule("L75", "L76")
def test_shares_of_peers_of_the_run_and_behind_a_peer_move_together() -> None:
    ledger = InMemoryLedger()
    one, two, three = (ledger.keys[number].peer for number in (1, 2, 3))
    draft = Draft(ledger.state, one)
    draft.add_shares(RUN, one, 70)
    draft.add_shares(RUN, two, 30)
    work = replace(draft.contribution(RUN, one), backs=three, backs_turn=0)
    draft.put_contribution(RUN, one, work)
    draft.add_backing(RUN, three, 70)
    draft.add_shares(RUN, one, 5)
    draft.add_shares(RUN, two, -30)
    state = draft.finish()
    assert state.run_shares(RUN) == RunShares(total=75, turn=0)
    assert state.run_shares(OTHER) == NO_SHARES
    assert (state.contribution(RUN, one).shares, state.contribution(RUN, two).shares) == (75, 0)
    assert state.backing(RUN, three) == 75
    assert decode_state(encode_state(state)).root == state.root
    later = Draft(state, one)
    later.put_shares(RUN, RunShares(total=75, turn=1))
    later.add_shares(RUN, one, 1)
    assert later.backing(RUN, three) == 0, "said for another time"
    again = Draft(state, one)
    again.add_shares(RUN, one, -75)
    assert again.get(backing_key(RUN, 0, three)) is None, "an entry that says nothing is dropped"
