"""Connect to the named peers and stay connected: retry for ever, report every try, never fail.

Shell: one task per peer that the ticket or the node file names.

The reports ``Trying``, ``Failed`` and ``Reached`` show how a node looks for its first peer.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from swarm.errors import Unreachable
from swarm.host.backoff import backoff_s
from swarm.host.outbound import RETRY_ISOLATED_S
from swarm.host.service import Host
from swarm.types import PeerId


@dataclass(frozen=True, slots=True)
class Trying:
    """Attempt that begins."""

    peer: PeerId
    attempt: int
    """Number of the attempt, from 1."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Attempt that ended; another follows."""

    peer: PeerId
    attempt: int
    reason: str
    """Sentence that names the cause."""
    retry_s: float
    """Seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class Reached:
    """Connection to a peer that was asked for."""

    peer: PeerId
    is_first: bool
    """True for the first peer reached since the start."""


Progress = Trying | Failed | Reached


TARGETS_MAX = 16
"""Named peers tried; beyond that the DHT is the better source."""

RETRY_FIRST_S = 1.0
RETRY_MOST_S = 30.0
"""Seconds of the longest wait: a peer that comes back after an hour is found within about half a minute."""

POLL_S = 1.0
"""Seconds between two looks, in a longer wait, whether a peer is still connected."""

CHECK_INTERVAL_S = 5.0
"""Seconds between checks that a reached peer is still connected."""


async def bootstrap(
    host: Host,
    targets: Sequence[tuple[PeerId, Sequence[str]]],
    reports: trio.MemorySendChannel[Progress],
) -> None:
    """Stay connected to the ``targets``, (peer, addresses) each; runs until cancelled and never fails.

    Every try and its outcome goes to ``reports``; a reader that is late misses reports, and never delays a try.
    """
    if not targets:
        return
    first = trio.Event()
    async with trio.open_nursery() as nursery:
        for peer, addresses in targets[:TARGETS_MAX]:
            host.learn(peer, addresses)
            nursery.start_soon(_keep, host, (peer, addresses), reports, first)


async def _keep(
    host: Host,
    target: tuple[PeerId, Sequence[str]],
    reports: trio.MemorySendChannel[Progress],
    first: trio.Event,
) -> None:
    (peer, addresses), attempt = target, 0
    while peer != host.peer:
        attempt += 1
        _report(reports, Trying(peer, attempt))
        try:
            # Those of many others may have taken its place in the host's table meanwhile.
            await host.connect(peer, [*host.known_addresses(peer), *addresses])
        except Unreachable as error:
            jitter, ended = random.random(), trio.current_time()
            _report(reports, Failed(peer, attempt, str(error), _wait_s(host, attempt, jitter)))
            while (  # noqa: ASYNC110  a wait that becomes shorter when the last link ends
                rest_s := ended + _wait_s(host, attempt, jitter) - trio.current_time()
            ) > 0:
                await trio.sleep(min(rest_s, POLL_S))
            continue
        _report(reports, Reached(peer, is_first=not first.is_set()))
        first.set()
        attempt = 0
        while host.is_connected(peer):  # noqa: ASYNC110  a link has no event that outlives it
            await trio.sleep(CHECK_INTERVAL_S)


def _wait_s(host: Host, attempt: int, jitter: float) -> float:
    """Return the seconds between two tries: fewer while this node has nobody else."""
    most_s = RETRY_MOST_S if host.connected() else RETRY_ISOLATED_S
    return backoff_s(attempt - 1, first_s=RETRY_FIRST_S, most_s=most_s, jitter=jitter)


def _report(reports: trio.MemorySendChannel[Progress], progress: Progress) -> None:
    try:
        reports.send_nowait(progress)
    except (trio.WouldBlock, trio.BrokenResourceError):
        return
