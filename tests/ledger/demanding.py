"""Demands to show the list of a segment, and what is shown."""

import dataclasses
from collections.abc import Sequence

from swarm.ledger.demands import DemandEntry, ShowEntry
from swarm.ledger.edges import EdgeMessage, sender_of
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transition.phases import demand_end
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import SentEntry, open_place, sent_root
from swarm.types import PeerId, RoundIndex, RunIndex, StageIndex
from tests.ledger.checking import Case
from tests.ledger.edges import INCARNATION, SENT, signed

WHERE = (RunIndex(1), RoundIndex(1), StageIndex(0), 1)
"""Segment of the solver of ``a_case``."""


def with_list(case: Case, sent: Sequence[SentEntry] = SENT) -> Case:
    """Let the segment of a case, in whatever phase, have committed to a list."""
    ledger = case.ledger
    draft = Draft(ledger.state, ledger.keys[0].peer)
    changed = replace(case.record, sent_root=sent_root(sent), incarnation=INCARNATION)
    draft.put_segment(changed)
    name = digest(
        "with-list", ledger.head.digest
    )  # what was made of the other state is not looked up
    ledger.head = dataclasses.replace(ledger.head, state=draft.finish(), digest=name)
    return case


def demand(case: Case, message: EdgeMessage) -> DemandEntry:
    """Return the demand for a message, once the solver has signed it."""
    return DemandEntry(*sender_of(message), signed(case, message))


def answer(case: Case, sent: Sequence[SentEntry] = SENT, number: int = -1) -> ShowEntry:
    """Return what a list has at the place of a demand, by default the last one."""
    at = number % len(case.record.demands)
    opening = open_place(sent, case.record.demands[at].place)
    assert opening is not None, "the list has an entry"
    return ShowEntry(*WHERE, at, opening)


def ask(case: Case, key: SecretKey, message: EdgeMessage) -> None:
    """Demand what the solver signs."""
    case.submit(key, demand(case, message))


def run_out(case: Case) -> None:
    """Let the time of a demand that was made in the last block pass, and nothing be shown."""
    end = demand_end(case.run.spec, case.ledger.state.height)
    case.ledger.empty_blocks(end - case.ledger.state.height)


def is_silent(case: Case) -> bool:
    return case.is_now(SegmentPhase.SILENT)


def stakeless(case: Case, key: SecretKey) -> None:
    """Take the stake of a peer, as if it had never had one."""
    draft = Draft(case.ledger.state, key.peer)
    draft.burn(draft.take_stake(PeerId(key.peer), 100))
    name = digest("stakeless", case.ledger.head.digest)
    case.ledger.head = dataclasses.replace(case.ledger.head, state=draft.finish(), digest=name)
