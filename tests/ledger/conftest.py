"""Let the tests of the ledger run in virtual time."""

from collections.abc import Callable, Generator

import pytest
import trio

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


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time must not run while a thread works: do its work at once."""

    async def run_inline(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
