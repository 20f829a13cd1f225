"""Every event of a real window is decided: copies and merges by a program, anchors and ends by being opened."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import pytest
from torch import Tensor

from swarm.errors import PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import encode, replace
from swarm.primitives.state_parts import (
    ANCHOR,
    OFFERED,
    RESIDUAL,
    TOKENS,
    offered_component,
    tokens_component,
)
from swarm.training.record.window import AnchorSet, SnapshotTaken
from swarm.types import NO_DIGEST, Digest
from swarm.verify.inputs import InputTree
from swarm.verify.manifest import manifest_of, sign_manifest
from swarm.verify.program.account import Account, Kind, kind_of, result_of
from swarm.verify.program.brief import whole
from swarm.verify.program.computed import Copied, Merged, Traded
from swarm.verify.program.dispute import (
    Dispute,
    Move,
    OpenOther,
    Phase,
    case_of,
    moved,
    opened,
)
from swarm.verify.program.events import OpenAnchor, OpenCopy, OpenEnd, OpenMerge
from swarm.verify.program.game import Pick
from swarm.verify.program.nodes import INPUT
from swarm.verify.program.players import Challenger, Solver
from swarm.verify.program.shown import ShowInputs
from swarm.verify.transcript import merge_leaf, state_root
from tests.verify.program.scenes import (
    ANYWHERE,
    CODEC,
    DECLINED,
    TWO_TENSORS,
    TWO_TRADES,
    Scene,
    final_scene,
    scene,
    trained,
)
from tests.verify.program.test_dispute import play
from tests.verify.program.test_reveal import flipped

GAMES = 16
"""Random lies in copies and merges of each run."""
SHUT = {INPUT, "taken"}
"""Operators of nodes that are not asked for: a weight that is neither the due one nor 0 cannot be opened."""
CODECS = (CODEC, TWO_TENSORS, TWO_TRADES)
Opens = OpenCopy | OpenMerge | OpenAnchor | OpenEnd
Forge = Callable[[Opens], Opens]


def scenes(codec: str) -> Iterator[Scene]:
    """All windows of a seat of each stage."""
    for (round_, stage, seat), segment in trained(codec).segments.items():
        for number in range(len(segment.windows)) if seat == 0 else ():
            yield scene(stage, number, round_, codec)


def events(codec: str, *kinds: Kind) -> list[tuple[Scene, int]]:
    found = [
        (here, event)
        for here in scenes(codec)
        for event, kind in enumerate(here.account.kinds)
        if kind in kinds
    ]
    assert found
    return found


def contradicted(here: Scene, event: int) -> Dispute:
    """A dispute that begins with a false state after an event."""
    states = (*here.account.states[:event], *[ANYWHERE] * len(here.account.states[event:]))
    other = replace(here.account, states=states)
    return opened(here.window, other, result_of(other).claim)


class FalseTraded(Traded):
    """One bit of one value of a copy or a merge is false, and all that follows from it."""

    lie: tuple[int, int, int] = (0, 0, 0)
    """Node, place, bit."""

    def watched(self, number: int, value: Tensor) -> Tensor:
        at, place, bit = self.lie
        return flipped(value, place, bit) if number == at else value


class Liar(Solver):
    """A solver with a false event; ``forged`` changes what it says of that event besides."""

    def __init__(
        self,
        here: Scene,
        event: int,
        lie: tuple[int, int, int] | None,
        forged: Forge = lambda said: said,
    ) -> None:
        super().__init__(here.window, here.log, here.account)
        kind = here.account.kinds[event]
        if lie is not None:
            honest = Copied if kind == Kind.COPY else Merged
            false = type("False", (FalseTraded, honest), {"lie": lie})
            self._traded = (event, false(here.window, here.log, event))
        self._forged = forged
        said = forged(self._opened(contradicted(here, event)))
        leaves, states = list(here.account.leaves), list(here.account.states)
        states[event] = state_root(tuple(map(Digest, said.after)))
        if isinstance(said, OpenMerge):
            leaves[event] = merge_leaf(said.record)
        honest_said = (here.account.leaves[event], here.account.states[event])
        self.is_false = (leaves[event], states[event]) != honest_said
        states[event + 1 :] = [ANYWHERE] * (len(states) - event - 1)
        self.account = replace(here.account, leaves=tuple(leaves), states=tuple(states))

    def _opened(self, dispute: Dispute) -> Opens:
        move = super().move(dispute)
        assert isinstance(move, Opens)
        return whole(move, dispute.account)

    def move(self, dispute: Dispute) -> Move:
        if dispute.phase == Phase.OPEN:
            return self._forged(self._opened(dispute))
        return super().move(dispute)


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", CODECS)
def test_an_honest_solver_opens_every_event_of_every_window(codec: str) -> None:
    merges = set[tuple[Codec | None, Codec | None]]()
    for here, event in events(codec, Kind.ANCHOR, Kind.COPY, Kind.MERGE, Kind.END):
        dispute = contradicted(here, event)
        move = Solver(here.window, here.log).move(dispute)
        after = moved(here.window, dispute, move, is_solver=True)
        if isinstance(move, OpenAnchor | OpenEnd):
            is_end = isinstance(move, OpenEnd)
            assert after.phase == (Phase.FALSE if is_end else Phase.INPUTS)
            continue
        assert isinstance(move, OpenCopy | OpenMerge)
        if isinstance(move, OpenMerge):
            merges.add((move.codec, move.my_codec))
        assert (after.phase, after.event, after.is_solvers_turn) == (Phase.WALK, event, False)
        assert len(encode(after)) < 4 << 10, "a ledger keeps little between two moves"
        case, traded = case_of(here.window, after), Solver(here.window, here.log).traded(event)
        assert {node: traded.roots[node] for node in case.bound} == case.bound
        assert set(case.program.inputs.values()) <= set(case.bound), "every input is bound"
        assert set(case.program.outputs.values()) <= set(case.bound), "every output is bound"
        with pytest.raises(PeerFault):
            moved(here.window, dispute, OpenOther(move.account), is_solver=True)
    used = Codec.INT8 if codec == CODEC else Codec.INT4
    assert {(used, used), (Codec.BF16, Codec.BF16)} <= merges
    assert (None, None) in merges or (None, used) in merges


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("number", range(GAMES))
def test_a_false_bit_is_pinned_to_its_node_and_an_honest_solver_wins(
    codec: str, number: int
) -> None:
    rng = random.Random(f"{codec} {number}")
    here, event = rng.choice(events(codec, Kind.COPY if number < 3 else Kind.MERGE))
    honest = Solver(here.window, here.log).traded(event)
    computed = [n for n, node in enumerate(honest.program.nodes) if node.operator not in SHUT]
    while True:
        node = rng.choice(computed)
        value = honest.values[node]
        lie = (node, rng.randrange(value.numel()), rng.randrange(8 * value.element_size()))
        liar = Liar(here, event, lie)
        if liar.is_false:  # else it reaches neither the leaf nor the state, and is none
            break
    window = here.against(liar.account)
    played = play(window, liar, Challenger(window, here.log), rng)
    assert played.dispute.phase == Phase.GUILTY
    assert played.dispute.walk is not None
    assert played.dispute.walk.node == node
    assert played.rounds <= 10
    # The other way round: an honest solver, and a challenger that says what the liar says.
    accuser = Challenger(here.window, here.log, liar.account)
    accuser.take(liar)
    cleared = play(here.window, Solver(here.window, here.log), accuser, rng)
    assert cleared.dispute.phase != Phase.GUILTY
    assert not cleared.dispute.is_solvers_turn


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", CODECS)
def test_an_honest_solver_wins_against_a_false_state_after_any_event(codec: str) -> None:
    for here, event in events(codec, Kind.ANCHOR, Kind.COPY, Kind.MERGE, Kind.END):
        states = (*here.account.states[:event], *[ANYWHERE] * len(here.account.states[event:]))
        accuser = Challenger(here.window, here.log, replace(here.account, states=states))
        played = play(here.window, Solver(here.window, here.log), accuser)
        assert played.dispute.phase != Phase.GUILTY
        assert not played.dispute.is_solvers_turn


# --- partners that are declined, and the last rounds ---


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_partner_that_is_declined_is_declined_by_the_program(stage: int) -> None:
    declined = 0
    for here, event in events(DECLINED, Kind.MERGE):
        said = Solver(here.window, here.log).traded(event).said
        assert isinstance(said, OpenMerge)
        if here.window.facts.stage != stage or not said.due_nano:
            continue
        declined += 1
        assert (said.weight_nano, len(said.partner)) == (0, 32)
        dispute = contradicted(here, event)
        move = Solver(here.window, here.log).move(dispute)
        assert moved(here.window, dispute, move, is_solver=True).phase == Phase.WALK
        assert outcome(here, event, partial(replace, weight_nano=said.due_nano)) == GUILTY
    assert declined


@pytest.mark.rule("V42")
@pytest.mark.parametrize("stage", [0, 1])
def test_a_round_of_final_averaging_is_decided_like_any_other(stage: int) -> None:
    here, rng = final_scene(stage), random.Random(stage)
    assert here.account.kinds == (Kind.COPY, Kind.MERGE, Kind.COPY, Kind.MERGE, Kind.END)
    for event in range(4):
        dispute, solver = contradicted(here, event), Solver(here.window, here.log)
        move = solver.move(dispute)
        assert moved(here.window, dispute, move, is_solver=True).phase == Phase.WALK
        last = len(solver.traded(event).program.nodes) - 1
        liar = Liar(here, event, (last, 3, 7))
        assert liar.is_false
        window = here.against(liar.account)
        played = play(window, liar, Challenger(window, here.log), rng)
        assert played.dispute.phase == Phase.GUILTY
    facts = dataclasses.replace(here.window.facts, is_final_averaging=False)
    trains = dataclasses.replace(here.window, facts=facts)
    move = Solver(here.window, here.log).move(contradicted(here, 1))
    with pytest.raises(PeerFault):  # its codec is that of the last rounds alone
        moved(trains, contradicted(here, 1), move, is_solver=True)


# --- what a solver says besides ---


def outcome(here: Scene, event: int, forged: Forge) -> tuple[Phase, bool]:
    """End of a dispute with who forges what it says of an event, and whether it is then its turn."""
    liar = Liar(here, event, None, forged)
    assert liar.is_false
    window = here.against(liar.account)
    played = play(window, liar, here.accuser(window))
    return Phase(played.dispute.phase), played.dispute.is_solvers_turn


STUCK = (Phase.OPEN, True)
"""It cannot open its own account, and loses by the clock."""
GUILTY = (Phase.GUILTY, False)


def with_part(part: int, digest: bytes) -> Forge:
    def forged(said: Opens) -> Opens:
        return replace(said, after=(*said.after[:part], digest, *said.after[part + 1 :]))

    return forged


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", [Kind.ANCHOR, Kind.COPY, Kind.MERGE, Kind.END])
@pytest.mark.parametrize("part", range(10))
def test_attack_another_part_of_the_state_after_an_event(codec: str, kind: Kind, part: int) -> None:
    here, event = events(codec, kind)[-1]
    by_program = {0, 4, 5} | ({RESIDUAL} if codec == TWO_TRADES else set())
    is_played = (kind == Kind.MERGE and part in by_program) or (kind, part) == (Kind.ANCHOR, ANCHOR)
    assert outcome(here, event, with_part(part, ANYWHERE)) == (GUILTY if is_played else STUCK)


def a_merge(codec: str, *, is_solo: bool = False, is_own: bool = True) -> tuple[Scene, int]:
    """A merge of a run, alone or in its own codec, by the solver's opening."""
    for here, event in events(codec, Kind.MERGE):
        traded = Solver(here.window, here.log).traded(event)
        assert isinstance(traded, Merged)
        theirs = traded.said.codec
        if (
            theirs is None
            if is_solo
            else theirs is not None and (theirs is not Codec.BF16) == is_own
        ):
            return here, event
    raise AssertionError("no such merge")


LEAVES: dict[str, tuple[Mapping[str, object], tuple[Phase, bool]]] = {
    "another exchange": ({"exchange": 1}, STUCK),
    "an exchange that a round does not have": ({"exchange": 99}, STUCK),
    "another partner": ({"partner": ANYWHERE}, STUCK),
    "a partner of another length": ({"partner": b"short"}, STUCK),
    "another seat": ({"partner_seat": 5}, STUCK),
    "no seat": ({"partner_seat": -1}, STUCK),
    "another payload of the partner": ({"partner_payload": ANYWHERE}, GUILTY),
    "another payload of ours": ({"my_payload": ANYWHERE}, GUILTY),
    "no payload of ours": ({"my_payload": NO_DIGEST}, STUCK),
    "a partner that was declined": ({"weight_nano": 0}, GUILTY),
    "another weight": ({"weight_nano": 3}, STUCK),
    "another weight that is due": (
        {"weight_nano": 3, "due_nano": 3},
        GUILTY,
    ),
    "too much weight": ({"weight_nano": 600_000_000, "due_nano": 600_000_000}, STUCK),
    "a weight below nothing": ({"weight_nano": -1, "due_nano": -1}, STUCK),
    "a codec that the round has not": ({"codec": Codec.F32}, STUCK),
    "no codec": ({"codec": None}, STUCK),
    "another codec of ours that the round has not": ({"my_codec": Codec.INT3}, STUCK),
    "a residual where none is kept": ({"moves_residual": True}, STUCK),
}


@pytest.mark.rule("V42")
@pytest.mark.parametrize("what", LEAVES)
def test_attack_another_leaf_of_a_merge(what: str) -> None:
    changes, expected = LEAVES[what]
    here, event = a_merge(CODEC)

    def forged(said: Opens) -> Opens:
        assert isinstance(said, OpenMerge)
        lie = replace(said, **changes)
        # What is no part of the leaf cannot make it false: another thing does.
        return lie if lie.record != said.record else with_part(0, ANYWHERE)(lie)

    assert outcome(here, event, forged) == expected


@pytest.mark.rule("V42")
def test_attack_a_step_alone_that_mentions_a_partner() -> None:
    here, event = a_merge(CODEC, is_solo=True)
    for changes in (
        {"partner_seat": 1},
        {"partner_payload": ANYWHERE},
        {"weight_nano": 1},
        {"weight_nano": 1, "due_nano": 1},
        {"my_payload": ANYWHERE, "my_codec": Codec.INT8},
    ):
        assert outcome(here, event, partial(replace, **changes)) == STUCK


def with_tokens(*tokens: int) -> Forge:
    """Other tokens, and what the state makes of them."""

    def forged(said: Opens) -> Opens:
        assert isinstance(said, OpenCopy | OpenMerge)
        part = tokens_component(tokens[0], tokens[1:])
        lie = replace(said, tokens=tokens)
        return with_part(TOKENS, part)(lie)

    return forged


@pytest.mark.rule("V42")
@pytest.mark.parametrize("kind", [Kind.COPY, Kind.MERGE])
def test_attack_other_counters_than_those_of_the_state(kind: Kind) -> None:
    here, event = events(CODEC, kind)[-1]
    for tokens in ((10**6, 0, 0), (5, 5), (-1, -1, -1), (3, 4, 5), (1 << 60, 0, 0)):
        assert outcome(here, event, with_tokens(*tokens)) == STUCK


@pytest.mark.rule("V42")
@pytest.mark.parametrize("kind", [Kind.COPY, Kind.MERGE])
def test_attack_a_merge_that_does_not_count_or_a_copy_that_does(kind: Kind) -> None:
    """A fragment with more tokens since its last merge counts for more at its next partner."""
    for here, event in events(TWO_TRADES, kind):
        said = Solver(here.window, here.log).traded(event).said
        total, *at_sync = said.tokens
        for fragment in (0, 1):
            synced = list(at_sync)
            synced[fragment] = total if at_sync[fragment] != total else 0
            part = tokens_component(total, synced)
            if part != said.after[TOKENS]:
                assert outcome(here, event, with_part(TOKENS, part)) == STUCK


def offered_after(said: Opens) -> Iterator[bytes]:
    """What is on its way after an event, otherwise than it must be."""
    assert isinstance(said, OpenCopy | OpenMerge)
    over, held = said.trades_over, said.offered
    yield offered_component(held, over)
    if isinstance(said, OpenCopy):
        entry = (said.exchange, said.tokens[0], said.theta)
        kept = [one for one in held if one[0] != said.exchange]
        yield offered_component([*kept, (*entry[:1], 7, said.theta)], over)
        yield offered_component([*kept, (*entry[:2], ANYWHERE)], over)
        yield offered_component([entry, *held, entry], over)
    if over:
        yield offered_component([o for o in held if o[0] != said.exchange], [0 for _ in over])
        yield offered_component([o for o in held if o[0] != said.exchange], [2 for _ in over])


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", [CODEC, TWO_TRADES])
@pytest.mark.parametrize("kind", [Kind.COPY, Kind.MERGE])
def test_attack_other_fragments_on_their_way_after_it(codec: str, kind: Kind) -> None:
    here, event = events(codec, kind)[-1]
    said = Solver(here.window, here.log).traded(event).said
    for part in offered_after(said):
        if part != said.after[OFFERED]:
            assert outcome(here, event, with_part(OFFERED, part)) == STUCK


@pytest.mark.rule("V42")
def test_attack_a_copy_with_other_values() -> None:
    """What is on its way is what the program gives, whatever the counters say."""
    here, event = events(CODEC, Kind.COPY)[0]

    def forged(said: Opens) -> Opens:
        assert isinstance(said, OpenCopy)
        fragment = here.window.facts.spec.outer.fragment_of(said.exchange)
        added = (said.exchange, said.tokens[0] - said.tokens[1 + fragment], ANYWHERE)
        lie = replace(said, theta=ANYWHERE)
        return with_part(OFFERED, offered_component([*said.offered, added]))(lie)

    assert outcome(here, event, forged) == GUILTY


@pytest.mark.rule("V42")
@pytest.mark.parametrize("codec", [CODEC, TWO_TRADES])
@pytest.mark.parametrize("kind", [Kind.COPY, Kind.MERGE])
def test_whatever_is_opened_a_judge_says_whose_fault_it_is(codec: str, kind: Kind) -> None:
    here, event = events(codec, kind)[-1]
    dispute = contradicted(here, event)
    move = Solver(here.window, here.log).move(dispute)
    assert isinstance(move, OpenCopy | OpenMerge)
    entry = (move.exchange, 3, ANYWHERE)
    lies: list[Move] = [
        replace(move, before=()),
        replace(move, after=(b"",) * 10),
        replace(move, before=move.after, after=move.before),
        replace(move, tokens=()),
        replace(move, tokens=move.tokens[:-1]),
        replace(move, offered=(*move.offered, entry)),
        replace(move, offered=((-1, 0, ANYWHERE),)),
        replace(move, offered=((0, -1, ANYWHERE),)),
        replace(move, offered=((0, 1 << 70, ANYWHERE),)),
        replace(move, offered=((0, 0, b""),)),
        replace(move, offered=((0, 0, ANYWHERE),) * 2),
        replace(move, trades_over=(9, 9)),
        replace(move, trades_over=(0,)),
        replace(move, exchange=-1),
        replace(move, exchange=1 << 70),
        replace(move, trace=b""),
        replace(move, trace=ANYWHERE),
        replace(move, hashes=()),
        replace(move, hashes=(ANYWHERE,) * len(move.hashes)),
        replace(move, account=replace(move.account, tokens=move.account.tokens + 1)),
        OpenAnchor(move.account, move.before, move.after),
        OpenEnd(move.account, move.before, move.after),
        Pick(0),
        ShowInputs(here.manifest),
    ]
    if isinstance(move, OpenCopy):
        lies += [replace(move, theta=b""), replace(move, theta=ANYWHERE)]
    for lie in lies:
        with pytest.raises(PeerFault):
            moved(here.window, dispute, lie, is_solver=True)
    begun = moved(here.window, dispute, move, is_solver=True)
    for late in (move, ShowInputs(here.manifest), Pick(0)):
        with pytest.raises(PeerFault):
            moved(here.window, begun, late, is_solver=True)


# --- anchors and ends ---


@pytest.mark.rule("V42a", "V64")
def test_attack_another_anchor_than_the_log_has() -> None:
    """Payloads are relative to it: with one of its own a seat could make its partners decode anything."""
    here, event = events(CODEC, Kind.ANCHOR)[0]
    for root in {ANYWHERE, *(here.window.anchors or ())}:
        if any(isinstance(a, AnchorSet) and a.root == root for a in here.log.data.events):
            continue
        liar = Liar(here, event, None, with_part(ANCHOR, root))
        window = here.against(liar.account)
        assert play(window, liar, here.accuser(window)).dispute.phase == Phase.GUILTY
        accuser = Challenger(here.window, here.log, liar.account, here.manifest)
        lost = play(here.window, Solver(here.window, here.log), accuser)
        assert (lost.dispute.phase, lost.dispute.is_solvers_turn) == (Phase.INPUTS, False)


@pytest.mark.rule("V42a", "V64")
@pytest.mark.parametrize("kind", [Kind.ANCHOR, Kind.END])
def test_an_event_that_the_log_does_not_have_is_nobodys(kind: Kind) -> None:
    """A challenger that claims one has no move; a solver that leaves one out is shown it."""
    here, event = events(CODEC, kind)[0]
    account = here.account
    more = Account(
        start=account.start,
        kinds=(*account.kinds[:event], Kind.COPY, *account.kinds[event:]),
        leaves=(*account.leaves[:event], b"", *account.leaves[event:]),
        states=(*account.states[:event], ANYWHERE, *account.states[event:]),
        tokens=account.tokens,
    )
    dispute = Dispute(more)
    move = Solver(here.window, here.log).move(dispute)
    begun = moved(here.window, dispute, move, is_solver=True)
    assert (begun.phase, begun.is_solvers_turn) == (Phase.INPUTS, False)
    for shown in (ShowInputs(here.manifest), *shown_events(here)):
        with pytest.raises(PeerFault):
            moved(here.window, begun, shown, is_solver=False)
    data = here.log.data
    position = (
        next(n for n, one in enumerate(data.events) if kind_of(one) == Kind.ANCHOR)
        if kind is Kind.ANCHOR
        else len(data.events)
    )
    longer = (*data.events[:position], SnapshotTaken(0), *data.events[position:])
    log = dataclasses.replace(here.log, data=dataclasses.replace(data, events=longer))
    manifest = manifest_of(
        dataclasses.replace(log.data, start_root=Digest(here.account.start)), NO_DIGEST, 1
    )
    signed = sign_manifest(here.secret, log.plan.chain, log.plan.run_digest, manifest)
    after = moved(here.window, begun, ShowInputs(signed), is_solver=False)
    assert after.phase == Phase.GUILTY


def shown_events(here: Scene) -> list[ShowInputs]:
    """Every event of the log, shown under its manifest."""
    tree, manifest = InputTree(here.log.data), here.manifest
    return [ShowInputs(manifest, one, tree.path(n)) for n, one in enumerate(tree.events)]


@pytest.mark.rule("V64")
@pytest.mark.parametrize("kind", [Kind.COPY, Kind.MERGE])
def test_attack_an_event_of_the_log_shown_in_the_place_of_another(kind: Kind) -> None:
    """Each has its own place under the root, and what the solver opens is what that has."""
    here, event = events(CODEC, kind)[-1]
    dispute = contradicted(here, event)
    move = Solver(here.window, here.log).move(dispute)
    begun = moved(here.window, dispute, move, is_solver=True)
    for shown in shown_events(here):
        with pytest.raises(PeerFault):
            moved(here.window, begun, shown, is_solver=False)
    other = replace(here.manifest, inputs=ANYWHERE)
    with pytest.raises(PeerFault):
        moved(here.window, begun, ShowInputs(other), is_solver=False)


@pytest.mark.rule("V42")
def test_what_was_on_its_way_at_the_end_is_on_its_way_no_more() -> None:
    here, event = events(CODEC, Kind.END)[0]
    part = offered_component([(0, 5, ANYWHERE)])
    assert outcome(here, event, with_part(OFFERED, part)) == STUCK
