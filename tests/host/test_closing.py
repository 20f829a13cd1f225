"""A host ends in time, also when everything around it is cancelled at once."""

import pytest
import trio

from swarm.host.service import open_host
from tests.host.conftest import CHAIN, a_host, a_secret

CLOSED_S = 1.5


@pytest.mark.rule("H17")
async def test_a_host_that_is_cancelled_with_open_links_ends_in_time() -> None:
    """The task that reads a connection is cancelled too, so no task is left to report that it closed."""
    async with a_host(1) as other:
        with trio.CancelScope() as scope:
            async with open_host(a_secret(2), listen=["127.0.0.1:0"], chain16=CHAIN) as host:
                await host.connect(other.peer, other.addresses())
                began = trio.current_time()
                scope.cancel()
                await trio.sleep_forever()
        assert trio.current_time() - began < CLOSED_S
