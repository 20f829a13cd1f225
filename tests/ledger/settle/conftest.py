"""One chain for all tests of settlement, and one contract on it, put back after each test."""

from collections.abc import Iterator
from copy import copy

import pytest

from swarm.testing.evm import TimedEngine
from tests.ledger.settle.settling import Bridge, an_engine


@pytest.fixture(scope="session")
def engine() -> TimedEngine:
    """The chain; tests that need one are skipped where its packages are not installed."""
    pytest.importorskip("eth_account", reason="needs: pip install 'swarm-train[evm]'")
    pytest.importorskip("eth_tester", reason="needs: pip install 'swarm-train[dev]'")
    return an_engine()


@pytest.fixture(scope="session")
def fresh(engine: TimedEngine) -> Bridge:
    """A ledger and its contract, as all tests begin with them."""
    return Bridge(engine)


@pytest.fixture
def bridge(fresh: Bridge) -> Iterator[Bridge]:
    """A ledger of four validators and its contract with funds; nothing is withdrawn."""
    mark, head, links = fresh.engine.keep(), fresh.ledger.head, list(fresh.ledger.links)
    yield copy(fresh)
    fresh.engine.restore(mark)
    fresh.ledger.head, fresh.ledger.links = head, links
