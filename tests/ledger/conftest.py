"""Keep the blocks of tests that change a rule to themselves."""

from collections.abc import Generator

import pytest

from swarm.ledger.transition import demands
from swarm.testing.ledger import forget_blocks

CHANGES = frozenset({"monkeypatch", "unshown"})


@pytest.fixture(autouse=True)
def own_blocks(request: pytest.FixtureRequest) -> Generator[None]:
    """Let a test that changes a rule make its blocks anew, and leave none of them to the tests after it."""
    changes_rules = not CHANGES.isdisjoint(request.fixturenames)
    if changes_rules:
        forget_blocks()
    yield
    if changes_rules:
        forget_blocks()


@pytest.fixture
def unshown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody shows its windows in this test: nobody is evicted for it, and seats go on from their ends."""
    monkeypatch.setattr(demands, "STRIKES_MAX", 1_000)
    monkeypatch.setattr(demands, "set_adrift", lambda _draft, _record: None)
