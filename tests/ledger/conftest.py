"""Let the tests of the ledger run in virtual time."""

from collections.abc import Callable

import pytest
import trio


@pytest.fixture
def inline_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time must not run while a thread works: do its work at once."""

    async def run_inline(work: Callable[..., object], *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return work(*arguments)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
