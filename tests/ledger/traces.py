"""Real windows of a seat on a ledger in memory, what their solver states of them, and proofs of its lies."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from torch import Tensor

from swarm.config.spec import NANO, CheckSpec, RunSpec
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.runs import round_key
from swarm.ledger.transactions import Join
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from swarm.testing.ledger import CheckedSegment, InMemoryLedger
from swarm.training.record.window import WindowKey
from swarm.types import PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.program.account import Kind
from swarm.verify.program.computed import Log, Step
from swarm.verify.program.nodes import INPUT
from swarm.verify.program.opened import Window
from swarm.verify.spots.checking import Wanted, case_of, wanted
from swarm.verify.spots.elements import Item
from swarm.verify.spots.proof import FalseTrace
from swarm.verify.spots.solving import Solved
from swarm.verify.spots.statement import SpotStatement, UpdateTrace, trace_path
from tests.ledger.checking import SOLVER, Case, goes_on
from tests.verify.spots.test_checking import VERIFIER, FalseStep, Liar, Sample, samples

CODEC, STAGE, ROUND, SEAT = "int8", 0, 1, 1
"""The segment of the solver of ``a_case``, in the run of which a seat of the same stage was recorded."""
WINDOW = 2
"""Window that has nothing but a step: the solver lies about its update."""
PLACE = 3
"""Element about which it lies."""


REPLAYED = CheckSpec(NANO, 1, 60)


def spec_of(numerics: str = "seq-f32/1", checks: CheckSpec = REPLAYED) -> RunSpec:
    """The recorded run, with rounds as short as those of ``EXACT``."""
    spec = samples(CODEC, STAGE)[0].crop.spec
    return replace(spec, round_blocks=6, rounds=40, checks=checks, numerics=numerics)


def recorded() -> list[Sample]:
    """The windows of the segment, in order."""
    return [one for one in samples(CODEC, STAGE) if one.spot.key.round == ROUND]


@cache
def honest(window: int) -> Solved:
    """A window as an honest solver computes it."""
    one = recorded()[window]
    return Solved(one.spot.window, one.log)


class OneFalse(FalseStep):
    """A step of which one element of one node is another, and all that follows from it."""

    def watched(self, part: int, number: int, value: Tensor) -> Tensor:
        """Return the value with the false element."""
        if (part, number) != self.lie:
            return value
        value = value.clone()
        value.view(-1)[PLACE] += 1
        return value


class OneLie(Liar):
    """A solver with one false element, and an account that goes with it."""

    def __init__(self, window: Window, log: Log, lie: tuple[int, int]) -> None:
        self._kind = type("Lied", (OneFalse,), {"lie": lie})
        Solved.__init__(self, window, log)


@cache
def lied() -> tuple[OneLie, FalseTrace]:
    """A solver that lies about one element of an update, and the proof of it; of another chain and seat."""
    one = recorded()[WINDOW]
    step = Step(one.spot.window, one.log, 0, one.log.account)
    assert one.log.account.kinds == (Kind.STEP,)
    nodes = step.program(step.update).nodes
    node = next(
        at
        for at, node in enumerate(nodes)
        if node.operator != INPUT and node.dtype == "float32" and at > len(nodes) // 2
    )
    liar = OneLie(one.spot.window, one.log, (step.update, node))
    number = next(at for at, trace in enumerate(liar.traces) if isinstance(trace, UpdateTrace))
    case = case_of(one.spot, liar.opened, liar.traces[number])
    asked = Wanted(number, case, (Item(node, PLACE, 1),))
    (found,) = proofs_in(liar, one.said(liar), [asked])
    one.check(found)
    return liar, found


@dataclass
class Traced(Case):
    """The committed segment of a solver whose windows are real; ``claimed`` is what honest replays give."""

    def key(self, window: int) -> WindowKey:
        return WindowKey(RunIndex(1), RoundIndex(ROUND), StageIndex(STAGE), SEAT, window)

    def states(
        self,
        solved: Solved,
        number: int,
        by: SecretKey | None = None,
        to: PeerId | None = None,
        **changes: object,
    ) -> SpotStatement:
        """What the solver, or another, signs about a window; ``changes`` are of its coordinates."""
        key = replace(self.key(number), **changes)
        chain, digest = self.ledger.state.chain, self.ledger.state.run(RunIndex(1)).spec_digest
        return solved.statement(by or self.solver, chain, digest, key, to or VERIFIER)

    def lie(
        self, by: SecretKey | None = None, to: PeerId | None = None, **changes: object
    ) -> FalseTrace:
        """The proof of a lie that the solver, or another, has signed for this segment, or for another."""
        liar, found = lied()
        return replace(found, statement=self.states(liar, WINDOW, by, to, **changes))

    def contradiction(self, window: int = WINDOW) -> SpotStatement:
        """A signed statement about a window whose claim is not the one that the solver shows."""
        return self.states(lied()[0], window)


def traced(
    *, num_accounts: int = 6, numerics: str = "seq-f32/1", checks: CheckSpec = REPLAYED
) -> Traced:
    """The commit of key 1 for round 1; beacon and digest of the run are those of the recorded one."""
    ledger = InMemoryLedger(num_accounts, 4)
    run = ledger.open_run(spec_of(numerics, checks))
    ledger.block(ledger.sign(ledger.keys[SOLVER], Join(run.index)))
    run = ledger.reach_round(run, 2)
    windows = recorded()
    results = windows[0].segment.claims()
    goes_on(ledger, run, results[0].start_root)
    _as_recorded(ledger, windows[0])
    commit = ledger.commit(
        run,
        ROUND,
        STAGE,
        SEAT,
        start=results[0].start_root,
        end_root=results[-1].end_root,
        num_steps=len(results),
        tokens=sum(result.tokens for result in results),
    )
    segment = CheckedSegment(commit, ()).with_results(results)
    case = Traced(ledger, ledger.state.run(run.index), segment, segment)
    case.submit(ledger.keys[SOLVER], segment.commit)
    return case


def _as_recorded(ledger: InMemoryLedger, one: Sample) -> None:
    """Put what programs depend on besides the spec into the state: no block of this chain has it."""
    plan, draft = one.spot.plan, Draft(ledger.state, ledger.keys[0].peer)
    run, info = draft.run(RunIndex(1)), draft.round_info(RunIndex(1), RoundIndex(ROUND))
    assert info is not None
    assert info.consensus == plan.consensus == -1
    draft.put_run(replace(run, spec_digest=plan.run_digest))
    draft.changes[round_key(run.index, info.round)] = replace(info, beacon=plan.beacon)
    ledger.head = dataclasses.replace(ledger.head, state=draft.finish())


def elements_of(
    one: Sample, solved: Solved, said: SpotStatement, seed: int, items: int = 12
) -> Iterator[FalseTrace]:
    """What a verifier is shown of a window, each as if it were false."""
    asked = wanted(one.spot, solved.opened, solved.traces, seed.to_bytes(32, "big"), items)
    yield from proofs_in(solved, said, asked)


def proofs_in(solved: Solved, said: SpotStatement, asked: list[Wanted]) -> Iterator[FalseTrace]:
    """All that is asked for of a window, each as if it were false."""
    for wish, answer in zip(asked, solved.shown(asked).traces, strict=True):
        trace, path = solved.traces[wish.trace], trace_path(solved.traces, wish.trace)
        for item in answer.items:
            yield FalseTrace(
                statement=said,
                trace=trace,
                number=wish.trace,
                path=path,
                values=item.values,
                reveal=item.reveal,
            )
