"""A solver states the same of a window whenever it is asked, also where its log has no start state."""

import dataclasses

import pytest

from swarm.primitives.state_parts import ANCHOR
from swarm.verify.edges import edges_in
from swarm.verify.program.computed import Log
from swarm.verify.program.events import OpenAnchor
from swarm.verify.replay import filled
from swarm.verify.spots.checking import edges_in_opened, wanted
from swarm.verify.spots.solving import Solved
from tests.training.record.test_window_bytes import without_values
from tests.verify.spots.test_checking import ITEMS, SEED, samples


@pytest.mark.rule("V50")
def test_a_window_without_its_start_state_is_computed_from_the_one_before() -> None:
    """The statement, and what a seed asks for, are those from the whole log."""
    here = [one for one in samples("int8", 1) if one.spot.key.round == 1]
    windows = [here[0].log.data, *(without_values(one.log.data) for one in here[1:])]
    for number, one in enumerate(here[:4]):
        log = one.log
        data = filled(log.plan, windows[: number + 1], log.tokens, log.anchors)
        again = Log(log.plan, data, log.tokens, log.anchors)
        whole, solved = Solved(one.spot.window, log), Solved(one.spot.window, again)
        assert one.said(solved) == one.said(whole)
        asked = wanted(one.spot, whole.opened, whole.traces, SEED, ITEMS)
        assert solved.shown(asked) == whole.shown(asked)


def test_what_others_signed_is_what_the_log_has() -> None:
    """Compared with the lists of their senders; and the anchors that are set are named."""
    for one in samples("int8", 1):
        opened = Solved(one.spot.window, one.log).opened
        logged = list(edges_in(one.log.data))
        said = list(edges_in_opened(opened))
        assert [edge for edge in logged if edge in said] == said
        set_here = {e.after[ANCHOR] for e in opened.events if isinstance(e, OpenAnchor)}
        assert set_here <= set(one.log.anchors)


def test_a_log_is_as_it_was_after_it_was_filled() -> None:
    one = samples("int8", 0)[0]
    before = dataclasses.replace(one.log.data)
    assert filled(one.log.plan, [one.log.data], one.log.tokens, one.log.anchors) == before
