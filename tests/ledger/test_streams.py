"""Whatever stream of transactions comes, the ledger keeps what it promises, and everything on it ends."""

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.ledger.check_statements import ForcedError
from swarm.ledger.transactions import Body
from swarm.ledger.transition import disputes
from tests.ledger.streams import Stream, play

SEEDS, SEEDS_MAX, STEPS = 28, 120, 150


@pytest.mark.rule("L1", "L4", "L5", "L7")
@settings(max_examples=12, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_a_stream_that_hypothesis_makes_up_changes_only_what_it_may(data: st.DataObject) -> None:
    stream = Stream(lambda sides: data.draw(st.integers(0, sides - 1)))
    stream.run(40)


@pytest.mark.rule("L1", "L4", "L5", "L7", "L39", "L47")
def test_streams_of_all_kinds_of_transactions_leave_no_money_and_no_segment_behind() -> None:
    """After the first streams more are played only until every kind was both accepted and refused."""
    accepted, refused = Counter[str](), set[str]()
    kinds = {kind.__name__ for kind in get_args(Body)}
    shown = {
        ForcedError.__name__
    }  # takes a real trace: tests/ledger/transition/test_forced_errors.py
    for seed in range(SEEDS_MAX):
        if seed >= SEEDS and kinds - shown == set(accepted) and kinds <= refused:
            break
        stream = play(seed, STEPS)
        accepted.update(stream.kinds)
        refused |= {text.partition(":")[0] for text in stream.refusals}
    assert kinds - shown == set(accepted), "a kind that no stream brought in: make it likelier"
    assert kinds <= refused


def test_a_stream_shows_money_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(_draft: object, record: object) -> object:
        return record  # the rest of the verifiers' pay stays in the record

    monkeypatch.setattr(disputes, "release", forgetful)
    with pytest.raises(AssertionError, match="holds no money"):
        [play(seed, STEPS) for seed in range(SEEDS)]
