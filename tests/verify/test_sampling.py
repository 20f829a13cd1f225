"""The dice that this node reads for itself are those that the ledger will believe."""

from swarm.config.spec import NANO, CheckSpec
from swarm.ledger.transition.sampling import drawn_window
from swarm.primitives.codec import replace
from swarm.testing.ledger import small_run_spec
from swarm.types import Amount
from swarm.verify.draws import PROOFS_MAX, Draws
from tests.ledger.checking import a_case


def test_what_we_read_is_what_the_ledger_reads() -> None:
    checks = CheckSpec(NANO, 10, 60)
    spec = small_run_spec(round_blocks=6, rounds=40, numerics="seq-f32/1", checks=checks)
    case = a_case(spec, num_steps=30, num_accounts=24)
    case.draw_verifiers()
    case.draw_verifiers()
    chain, num_drawn = case.ledger.state.chain, 0
    for key in case.able:
        stake = Amount(case.stake(key))
        found = {drawn.attempt: drawn for drawn in Draws(key, chain).of(case.record, spec, stake)}
        num_drawn += len(found)
        for attempt, draw in enumerate(case.record.draws):
            if attempt in found:
                proof = found[attempt].proof
                window = drawn_window(chain, draw, case.record, spec, key.peer, stake, proof)
                assert window == found[attempt].window
    assert 0 < num_drawn < 2 * len(case.able)


def test_a_proof_is_made_once_and_few_are_remembered() -> None:
    case = a_case()
    case.draw_verifiers()
    spec, record, stake = case.run.spec, case.record, Amount(case.stake(case.able[0]))
    draws = Draws(case.able[0], case.ledger.state.chain)
    first = draws.of(record, spec, stake)
    assert draws.of(record, spec, stake)[0].proof is first[0].proof
    assert PROOFS_MAX >= 1000
    assert draws.of(replace(record, draws=()), spec, stake) == ()
