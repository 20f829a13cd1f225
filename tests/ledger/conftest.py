"""Let the tests of the ledger run in virtual time."""

import inspect
from collections.abc import Callable, Generator

import pytest
import trio

from swarm.testing.ledger import forget_blocks


@pytest.fixture(autouse=True)
def own_blocks(request: pytest.FixtureRequest) -> Generator[None]:
    """Let a test that changes a rule make its blocks anew, and leave none of them to the tests after it."""
    changes_rules = "monkeypatch" in inspect.signature(request.function).parameters
    if changes_rules:
        forget_blocks()
    yield
    if changes_rules:
        forget_blocks()


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time must not run while a thread works: do its work at once."""

    async def run_inline(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
