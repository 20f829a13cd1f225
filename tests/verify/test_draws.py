"""A node proves once for each beacon, and finds the draws that select it."""

import pytest

from swarm.ledger.transition.sampling import check_eligible, prove_draw
from swarm.primitives import vrf
from swarm.verify.draws import Draws
from tests.ledger.checking import a_case


@pytest.mark.rule("L35")
def test_a_proof_is_made_once_for_a_beacon(monkeypatch: pytest.MonkeyPatch) -> None:
    case = a_case()
    case.draw_verifiers()
    made = list[bytes]()

    def counted(*args: object) -> bytes:
        made.append(prove_draw(*args))  # type: ignore[arg-type]
        return made[-1]

    monkeypatch.setattr("swarm.verify.draws.prove_draw", counted)
    key, state = case.able[0], case.ledger.state
    draws = Draws(key, state.chain)
    stake = check_eligible(state, case.record, case.run.spec, key.peer)
    first = draws.of(case.record, stake)
    assert draws.of(case.record, stake) == first
    assert len(made) == len(case.record.draws)
    for selected in first:
        assert selected.proof in made
        assert vrf.output(selected.proof)
