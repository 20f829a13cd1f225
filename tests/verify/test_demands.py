"""Nodes demand the lists that nobody serves, and show those that they have."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from swarm.config.spec import CheckSpec
from swarm.errors import Unreachable
from swarm.events import EventKind
from swarm.ledger.edges import EdgeMessage
from swarm.ledger.state.records import SegmentPhase
from swarm.ledger.transactions import Transfer
from swarm.ledger.transition.phases import demand_end
from swarm.ledger.transition.prices import demand_bond
from swarm.primitives.codec import replace
from swarm.primitives.crypto import digest
from swarm.primitives.edges import SentEntry, sent_root
from swarm.testing.ledger import STAKE, make_segment, numbered_key
from swarm.types import Amount, PeerId
from swarm.verify.demands import WAITING_MAX, answers_due, demand_due, demanded_segments
from swarm.verify.edges import encode_list
from swarm.verify.sent_lists import SENT_PROTOCOL
from tests.ledger.checking import EXACT, Case
from tests.ledger.demanding import answer, ask, run_out
from tests.ledger.edges import (
    ACTIVATION,
    GRADIENT,
    INCARNATION,
    OFFER,
    SENT,
    a_sender,
    message_of,
    other,
    signed,
)
from tests.verify.simulated_network import Node, SimulatedNetwork, a_network

UNCHECKED = replace(EXACT, checks=CheckSpec(0, 10, 60))
"""No verifier is drawn: who was lied to is alone."""
HELD: tuple[EdgeMessage, ...] = (ACTIVATION, GRADIENT, OFFER)


# --- what is due ---


def after_a_round() -> Case:
    """A segment whose list might be demanded."""
    case = a_sender(spec=UNCHECKED)
    case.ledger.empty_blocks(case.record.height + EXACT.round_blocks - case.ledger.state.height)
    return case


def held(case: Case, *messages: EdgeMessage) -> list[EdgeMessage]:
    return [signed(case, message) for message in messages or HELD]


def due(case: Case, peer: PeerId, messages: list[EdgeMessage]) -> EdgeMessage | None:
    body = demand_due(case.ledger.state, case.record, peer, messages)
    return None if body is None else body.message


@pytest.mark.rule("V59")
def test_a_round_after_its_commit_a_message_is_drawn_the_same_after_a_restart() -> None:
    case = after_a_round()
    messages, me = held(case), PeerId(case.ledger.keys[3].peer)
    drawn = due(case, me, messages)
    assert drawn in messages
    assert due(case, me, messages[::-1]) == drawn
    case.ledger.block()
    assert due(case, me, messages) == drawn
    early = a_sender(spec=UNCHECKED)
    early.ledger.empty_blocks(
        early.record.height + EXACT.round_blocks - 1 - early.ledger.state.height
    )
    assert due(early, me, held(early)) is None


@pytest.mark.rule("V59")
def test_a_fragment_among_many_gradients_is_drawn_as_often_as_any_of_them() -> None:
    """The draw is another one for each beacon, and for each peer."""
    case = after_a_round()
    gradients = [replace(GRADIENT, step=step) for step in range(30)]
    messages, state = held(case, OFFER, *gradients), case.ledger.state
    drawn = list[EdgeMessage]()
    for number in range(40):
        draw = replace(case.record.draws[0], beacon=digest("beacon", bytes([number])))
        record = replace(case.record, draws=(draw,))
        for key in (case.ledger.keys[0], case.ledger.keys[3]):
            body = demand_due(state, record, PeerId(key.peer), messages)
            assert body is not None
            drawn.append(body.message)
    offers = [message for message in drawn if message.signature == messages[0].signature]
    assert 25 <= len(offers) <= 55
    assert len({message.signature for message in drawn}) > 20


@pytest.mark.rule("V59")
def test_what_would_be_refused_or_could_not_be_paid_is_not_demanded() -> None:
    case = after_a_round()
    me, key = PeerId(case.ledger.keys[3].peer), case.ledger.keys[3]
    assert due(case, me, []) is None
    stale = replace(ACTIVATION, incarnation=INCARNATION - 1)
    assert due(case, me, held(case, stale)) is None
    assert due(case, PeerId(case.solver.peer), held(case)) is None
    assert due(case, PeerId(case.ledger.keys[9].peer), held(case)) is None, "no stake, no seat"
    ask(case, key, ACTIVATION)
    assert due(case, me, held(case)) is None, "one of ours waits"
    case.submit(case.solver, answer(case))
    assert due(case, me, held(case, ACTIVATION)) is None, "what was shown is not asked again"
    assert due(case, me, held(case)) is not None
    ask(case, key, GRADIENT)
    case.submit(case.solver, answer(case))
    assert due(case, me, held(case)) is None, "two in all"
    poor = case.ledger.keys[2]
    left = demand_bond(case.ledger.state.params)
    case.submit(poor, Transfer(case.solver.peer, Amount(case.balance(poor) - left - 10)))
    assert due(case, PeerId(poor.peer), held(case)) is None
    assert due(case, PeerId(case.ledger.keys[0].peer), held(case)) is not None


@pytest.mark.rule("V59")
def test_few_demands_of_a_node_wait_at_a_time() -> None:
    """What it has at risk for the lists of others is bounded, whatever nobody serves."""
    case, me = after_a_round(), PeerId(numbered_key(3).peer)
    ledger, run = case.ledger, case.run
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    ledger.reach_round(run, 4)
    edges = {"incarnation": INCARNATION, "sent_root": sent_root(SENT)}
    cases = [case]
    for round_ in (2, 3):
        made = make_segment(ledger, run, round_, 0, 1, **edges)
        ledger.block(ledger.sign(case.solver, made.commit))
        cases.append(Case(ledger, run, made, made))
    ledger.empty_blocks(EXACT.round_blocks)
    for number, one in enumerate(cases):
        mine = [message_of(one.record, message) for message in HELD]
        found = demand_due(ledger.state, one.record, me, held(one, *mine))
        assert (found is None) == (number == WAITING_MAX)
        if found is not None:
            ledger.block(ledger.sign(ledger.key_of(me), found))


@pytest.mark.rule("V59")
def test_the_solver_answers_at_once_and_others_when_half_of_the_time_is_over() -> None:
    case = after_a_round()
    ask(case, case.ledger.keys[3], ACTIVATION)
    solver, holder = PeerId(case.solver.peer), PeerId(case.ledger.keys[0].peer)

    def shows(peer: PeerId, *, has: bool = True) -> list[int]:
        state = case.ledger.state
        return [number for _, number in answers_due(state, peer, lambda _: has)]

    assert shows(solver) == [0]
    assert shows(solver, has=False) == []
    assert shows(holder) == []
    case.ledger.empty_blocks(demand_end(EXACT, 0) // 2)
    assert shows(holder) == [0]
    assert len(demanded_segments(case.ledger.state)) == 1
    case.submit(case.solver, answer(case))
    assert shows(solver) == shows(holder) == []
    ask(case, case.ledger.keys[0], OFFER)
    run_out(case)
    assert demanded_segments(case.ledger.state) == []


# --- nodes ---


async def set_up(
    network: SimulatedNetwork, *, shows: bool, sent: tuple[SentEntry, ...] = SENT
) -> None:
    """The solver has a list, and serves it to nobody; it may be silent on the ledger, too."""
    solver = network.solver
    await solver.checks.keep_reveal(network.case.claimed.reveal(), sent)
    hide(solver)
    if not shows:

        async def be_silent() -> None:
            await trio.sleep_forever()

        solver.checks.edges.show = be_silent  # type: ignore[method-assign]


def hide(node: Node) -> None:
    async def refuse(_peer: PeerId, _raw: bytes) -> bytes:
        raise Unreachable("this list is not here")

    node.host.serve(SENT_PROTOCOL, refuse, request_limit=64)


@pytest.mark.rule("V59", "L107")
async def test_a_liar_that_shows_its_list_to_nobody_is_unpaid_and_fined(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_sender(spec=UNCHECKED)
    async with a_network(case, tmp_path, keeps=False) as network:
        await set_up(network, shows=False)
        finder = network.able[0]
        before = case.balance(case.solver) + case.stake(case.solver)
        await finder.checks.edges.note(held(case, other(GRADIENT)))
        network.start()
        await network.until(SegmentPhase.SILENT)
        assert case.record.proved_by == finder.secret.peer
        assert case.balance(case.solver) + case.stake(case.solver) < before
        texts = [text for kind, text in finder.recorded.events if kind is EventKind.WARNING]
        assert any("nobody serves the list" in text for text in texts)


@pytest.mark.rule("V59", "L106")
async def test_a_liar_that_answers_convicts_itself(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_sender(spec=UNCHECKED)
    async with a_network(case, tmp_path, keeps=False) as network:
        await set_up(network, shows=True)
        finder = network.able[0]
        await finder.checks.edges.note(held(case, other(GRADIENT)))
        network.start()
        await network.until(SegmentPhase.GUILTY)
        assert case.record.proved_by == finder.secret.peer
        assert case.stake(case.solver) == 0


@pytest.mark.rule("V24", "V59")
async def test_after_a_restart_the_same_is_demanded(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_sender(spec=UNCHECKED)
    async with a_network(case, tmp_path, keeps=False) as network:
        await set_up(network, shows=False)
        finder = network.able[0]
        await finder.checks.edges.note(held(case, *(other(message) for message in HELD)))
        network.start()
        await network.blocks(2)
        finder.restart()
        await network.until(SegmentPhase.SILENT)
        assert case.record.proved_by == finder.secret.peer


@pytest.mark.rule("V59")
async def test_an_honest_solver_that_only_few_can_reach_shows_its_list_and_is_paid(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Who demanded it loses its bonds, as often as it may, and asks no more."""
    case = a_sender(spec=UNCHECKED)
    async with a_network(case, tmp_path, keeps=False) as network:
        await set_up(network, shows=True)
        finder = network.able[0]
        await finder.checks.edges.note(held(case))
        network.start()
        await network.until(SegmentPhase.UNSAMPLED)
        await network.blocks(25)
        assert case.is_now(SegmentPhase.UNSAMPLED)
        assert [(d.is_open, d.index >= 0) for d in case.record.demands] == [(False, True)] * 2
        assert case.record.is_paid
        assert case.stake(case.solver) == STAKE
        texts = [text for kind, text in network.solver.recorded.events if kind is EventKind.WARNING]
        assert len([text for text in texts if "can peers reach this node?" in text]) == 2


@pytest.mark.rule("V59", "L106")
async def test_whoever_has_the_list_of_a_solver_that_is_gone_shows_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    case = a_sender(spec=UNCHECKED)
    async with a_network(case, tmp_path, keeps=False) as network:
        await set_up(network, shows=False)
        finder, holder = network.able[:2]
        holder.checks.edges.lists.adopt(case.record, encode_list(SENT))
        hide(holder)  # the finder cannot reach it either
        await finder.checks.edges.note(held(case))
        network.start()
        await network.until(SegmentPhase.UNSAMPLED, SegmentPhase.SEALED)
        await network.blocks(15)
        assert case.record.demands
        assert all(demand.index >= 0 for demand in case.record.demands if not demand.is_open)


@pytest.mark.rule("V59")
async def test_a_list_that_anybody_serves_is_not_demanded(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """The owner sits in the round, and has the list; the solver does not serve it."""
    case = a_sender(spec=UNCHECKED)
    async with a_network(case, tmp_path, keeps=False) as network:
        await set_up(network, shows=True)
        finder = network.able[0]
        owner = network.nodes[PeerId(case.ledger.keys[0].peer)]
        owner.checks.edges.lists.adopt(case.record, encode_list(SENT))
        finder = next(node for node in network.able if node is not owner)
        await finder.checks.edges.note(held(case))
        network.start()
        await network.blocks(20)
        assert case.record.demands == ()
        assert finder.checks.edges.compared == len(HELD)
