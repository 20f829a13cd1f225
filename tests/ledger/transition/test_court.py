"""Every replica has the one court, and it is loaded when the first move is judged."""

import subprocess
import sys

from swarm.ledger.transition.court import COURT, the_court


def test_the_court_is_a_module_with_both_functions() -> None:
    court = the_court()
    assert callable(court.opened)
    assert callable(court.moved)


def test_a_reader_of_the_ledger_does_not_wait_for_it() -> None:
    code = f"import sys, swarm.ledger.transition.apply; sys.exit('{COURT}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
