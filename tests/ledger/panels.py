"""Segments of a run without exact numerics that a verifier rejects, and the panels that decide."""

from collections.abc import Sequence

from swarm.config.spec import RunSpec
from swarm.ledger.state.draws import Panel
from swarm.ledger.state.records import Check, SegmentPhase
from swarm.ledger.state.state import audit_supply
from swarm.ledger.transactions import Body
from swarm.ledger.transition.tolerance import is_fresh, members
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey
from tests.ledger.checking import EXACT, Case, a_case

NATIVE: RunSpec = replace(EXACT, numerics="native")
ACCOUNTS = 14


def a_native_case(
    spec: RunSpec = NATIVE, *, num_accounts: int = ACCOUNTS, num_steps: int = 10
) -> Case:
    """Its first segment: four times as many verifiers are drawn."""
    return a_case(spec, num_accounts=num_accounts, is_first=True, num_steps=num_steps)


def panel_of(case: Case) -> Panel:
    panel = case.record.panel
    assert panel is not None
    return panel


def rejected(case: Case, *, num_verifiers: int = 1, num_rejecters: int = 1) -> list[SecretKey]:
    """Up to the panel: the first of some verifiers reject their windows, and the others accept."""
    case.draw_verifiers()
    windows = ask(case, num_verifiers)
    assert len(windows) == num_verifiers, "that many are drawn, on average twice as many"
    rejecters = list(windows)[:num_rejecters]
    rejects = {peer: windows[peer] for peer in rejecters}
    accepts = {peer: window for peer, window in windows.items() if peer not in rejects}
    say(case, rejects, accepts)
    assert case.is_now(SegmentPhase.DOUBTED)
    return [case.ledger.key_of(peer) for peer in rejecters]


def ask(case: Case, count: int) -> dict[bytes, int]:
    """So many of the drawn verifiers ask in one block, and are dealt windows; their windows by peer."""
    made = [(key, case.claimed.request(case.ledger.state, key)) for key in case.able]
    bodies = [(key, body) for key, body in made if body is not None][::-1][:count]
    together(case, bodies)
    case.deal()
    return {check.peer: check.window for check in case.record.checks}


def say(case: Case, rejects: dict[bytes, int], accepts: dict[bytes, int]) -> None:
    """Verifiers answer blind, the solver shows its windows, and they show their answers."""
    likes = ((case.true.rejecting(), rejects), (case.true, accepts))
    for like, some in likes:
        for peer, window in some.items():
            key = case.ledger.key_of(peer)
            case.submit(key, like.blind(case.ledger.state, key.peer, window))
    case.wait(SegmentPhase.SEALED)
    case.submit(case.solver, case.claimed.reveal())
    state = case.ledger.state
    shown = [
        (case.ledger.key_of(peer), like.shown(state, case.ledger.key_of(peer).peer, window))
        for like, some in likes
        for peer, window in some.items()
    ]
    together(case, shown)


def together(case: Case, said: Sequence[tuple[SecretKey, Body]]) -> None:
    """Several statements in one block."""
    case.ledger.block(*(case.ledger.sign(key, body) for key, body in said))
    assert audit_supply(case.ledger.state) == case.ledger.state.supply


def draw_panel(case: Case) -> None:
    """Up to the next draw of the panel."""
    before = len(panel_of(case).draws)
    while len(panel_of(case).draws) == before:
        case.ledger.block()


def offer(case: Case, keys: list[SecretKey]) -> list[SecretKey]:
    """Those that are drawn among these, and have not answered, offer to sit in one block; who did."""
    fresh = [key for key in keys if is_fresh(case.record, key.peer)]
    bodies = [(key, case.true.offer(case.ledger.state, key)) for key in fresh]
    came = [(key, body) for key, body in bodies if body is not None]
    together(case, came)
    return [key for key, _ in came]


def seat(case: Case) -> list[SecretKey]:
    """Up to a panel that sits; its members."""
    draw_panel(case)
    offer(case, case.able)
    while not panel_of(case).is_seated:
        case.ledger.block()
    return [case.ledger.key_of(one.peer) for one in panel_of(case).seats]


def answer(case: Case, key: SecretKey, *, rejects: bool) -> None:
    """A member answers blind."""
    like = case.true.rejecting() if rejects else case.true
    window = panel_of(case).window
    case.submit(key, like.blind(case.ledger.state, key.peer, window))


def show(case: Case, key: SecretKey, *, rejects: bool) -> None:
    """A member shows its answer."""
    like = case.true.rejecting() if rejects else case.true
    case.submit(key, like.shown(case.ledger.state, key.peer, panel_of(case).window))


def decide(case: Case, sitting: list[SecretKey], num_rejecting: int) -> None:
    """All members answer and show; so many of them reject."""
    for number, key in enumerate(sitting):
        answer(case, key, rejects=number < num_rejecting)
    for number, key in enumerate(sitting):
        show(case, key, rejects=number < num_rejecting)


def sitting(case: Case) -> list[Check]:
    return members(case.record)
