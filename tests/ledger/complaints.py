"""A verifier that was not served, its complaint, and the witnesses of it."""

from swarm.ledger.state.draws import Contest
from swarm.ledger.transition.phases import contest_start, open_contest
from swarm.primitives.crypto import SecretKey
from tests.ledger.checking import EXACT, Case, a_case


def unserved(
    num_accounts: int = 7, lie: int | None = None, num_validators: int = 4
) -> tuple[Case, SecretKey]:
    """A segment whose one verifier was not served for a round."""
    case = a_case(num_accounts=num_accounts, num_validators=num_validators, lie=lie)
    found = list[SecretKey]()
    while not found:
        case.draw_verifiers()
        attempt = len(case.record.draws) - 1
        found = case.drawn(case.able, attempt)
    victim = found[0]
    case.ask([victim], attempt)
    case.ledger.empty_blocks(contest_start(case.record, EXACT) - case.ledger.state.height - 1)
    return case, victim


def complain(case: Case, victim: SecretKey) -> Contest:
    """It complains, and the witnesses are drawn."""
    case.submit(victim, case.claimed.complaint(case.ledger.state, victim.peer))
    while (found := open_contest(case.record)) is not None and found.draw is None:
        case.ledger.block()
    assert found is not None
    return found


def witnesses(case: Case) -> list[SecretKey]:
    """Those that are drawn for the open complaint: all that could be, where they are few."""
    contest = case.record.contests[-1]
    mine = case.record.checks[contest.check].peer
    state = case.ledger.state
    others = [key for key in case.able if key.peer != mine]
    return [k for k in others if case.claimed.witness(state, k, is_served=True) is not None]


def say(case: Case, keys: list[SecretKey], *, is_served: bool) -> None:
    for key in keys:
        body = case.claimed.witness(case.ledger.state, key, is_served=is_served)
        assert body is not None
        case.submit(key, body)
