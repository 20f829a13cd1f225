"""The dice that this node reads for itself are those that the ledger will believe."""

from swarm.config.spec import NANO, CheckSpec
from swarm.ledger.transition.sampling import is_drawn, prove_draw
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
        found = {drawn.attempt: drawn for drawn in Draws(key, chain).of(case.record, stake)}
        num_drawn += len(found)
        for attempt, draw in enumerate(case.record.draws):
            proof = prove_draw(key, chain, draw)
            is_mine = is_drawn(chain, draw, case.record, key.peer, stake, proof)
            assert is_mine == (attempt in found)
            assert not is_mine or found[attempt].proof == proof
    assert 0 < num_drawn < 2 * len(case.able)


def test_a_proof_is_made_once_and_few_are_remembered() -> None:
    case = a_case()
    case.draw_verifiers()
    record, stake = case.record, Amount(case.stake(case.able[0]))
    draws = Draws(case.able[0], case.ledger.state.chain)
    first = draws.of(record, stake)
    assert draws.of(record, stake)[0].proof is first[0].proof
    assert PROOFS_MAX >= 1000
    assert draws.of(replace(record, draws=()), stake) == ()
