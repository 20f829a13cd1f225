"""Say who averages with whom, from finalised state alone.

Core: pure functions of the beacon and the roster.

Everybody sorts the roster by a hash that the beacon seeds and pairs neighbours: no messages, nobody
chooses a partner, anyone can recheck. For a partner that fails, every two seats have an edge, whose weight is
a hash of both, the same from either end: who steps in is read off the heaviest edges (both ends choose a
locally heaviest one: Hoepman 2004). Source: docs/spec/training.md section 4, docs/spec/protocol.md section 4.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from swarm.codec import Message, encode
from swarm.crypto import digests
from swarm.types import Digest, PeerId, RoundIndex, StageIndex

EDGES_CACHED = 256
"""Seats whose edges of one fragment are remembered: each asks for its own several times in a trade."""
PAIRINGS_CACHED = 256
"""Fragments of stages and rounds whose pairs are remembered: every seat of a stage asks for the same ones."""


class SeatKey(Message, frozen=True, order=True):
    """A seat of one stage and the peer that sits in it; its encoding is what the draw hashes."""

    index: int
    peer: PeerId


def pair_up(
    peers: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    fragment: int,
    round: RoundIndex,  # noqa: A002 - the word of the protocol
) -> Mapping[SeatKey, SeatKey]:
    """Map each paired seat of a stage's roster to its partner; whoever is left over is absent.

    Two seats of one peer never pair: a peer trading with itself moves nothing. The order of ``peers``
    does not matter. Takes one hash per seat and one sort; the answer is remembered, and cannot be changed.
    """
    return _pairs(tuple(peers), beacon, run_digest, encode((stage, fragment, round)))


@lru_cache(maxsize=PAIRINGS_CACHED)
def _pairs(
    peers: tuple[SeatKey, ...], beacon: Digest, run_digest: Digest, context: bytes
) -> Mapping[SeatKey, SeatKey]:
    seats = list(dict.fromkeys(peers))
    draws = digests("pairing", (beacon, run_digest, context), map(encode, seats))
    held: deque[SeatKey] = deque()  # not paired yet, first come first; all of one peer
    pairs: dict[SeatKey, SeatKey] = {}
    for place in sorted(range(len(seats)), key=draws.__getitem__):
        seat = seats[place]
        if held and held[0].peer != seat.peer:
            partner = held.popleft()
            pairs[partner], pairs[seat] = seat, partner
        else:
            held.append(seat)
    return MappingProxyType(pairs)


def heaviest_edges(
    seat: SeatKey,
    peers: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    fragment: int,
    round: RoundIndex,  # noqa: A002 - the word of the protocol
) -> tuple[SeatKey, ...]:
    """All seats of other peers, the one with the heaviest edge to ``seat`` first.

    An edge weighs the same from both ends, so where one is heaviest for both they choose each other. The
    order of ``peers`` does not matter. Takes one hash per seat; the answer is remembered.
    """
    return _edges(seat, tuple(peers), beacon, run_digest, encode((stage, fragment, round)))


@lru_cache(maxsize=EDGES_CACHED)
def _edges(
    seat: SeatKey, peers: tuple[SeatKey, ...], beacon: Digest, run_digest: Digest, context: bytes
) -> tuple[SeatKey, ...]:
    others = sorted({other for other in peers if other.peer != seat.peer})
    ends = (encode((min(seat, other), max(seat, other))) for other in others)
    weights = digests("pairing-edge", (beacon, run_digest, context), ends)
    places = sorted(range(len(others)), key=weights.__getitem__, reverse=True)
    return tuple(others[place] for place in places)
