"""Every replica has the one court, and it is loaded when it first has something to judge."""

import subprocess
import sys

from swarm.errors import BadEncoding, BadSignature, BrokenPromise, OutOfTurn, Reason
from swarm.ledger.transition.court import COURT, refusal, the_court


def test_the_court_is_a_module_with_all_functions() -> None:
    court = the_court()
    assert callable(court.opened)
    assert callable(court.moved)
    assert callable(court.check_lie)


def test_a_fault_that_the_court_finds_has_its_own_reason() -> None:
    assert refusal(OutOfTurn("early")).reason is Reason.WRONG_PHASE
    assert refusal(BadEncoding("garbage")).reason is Reason.BAD_FIELD
    assert refusal(BrokenPromise("a lie")).reason is Reason.BAD_PROOF
    assert refusal(BadSignature("forged")).reason is Reason.BAD_PROOF
    assert "a lie" in str(refusal(BrokenPromise("a lie")))


def test_a_reader_of_the_ledger_does_not_wait_for_it() -> None:
    code = f"import sys, swarm.ledger.transition.apply; sys.exit('{COURT}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
