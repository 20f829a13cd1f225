"""Say who averages with whom, from finalised state alone.

Core: pure functions of the beacon and the roster.

Everybody sorts the roster by a hash that the beacon seeds and pairs neighbours: no messages, nobody
chooses a partner, anyone can recheck. Source: docs/spec/training.md section 4, docs/spec/protocol.md section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.codec import encode
from swarm.crypto import digest
from swarm.types import Digest, PeerId, RoundIndex, StageIndex


@dataclass(frozen=True, slots=True, order=True)
class SeatKey:
    """A seat of one stage and the peer that sits in it."""

    index: int
    peer: PeerId


def pair_up(
    peers: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    fragment: int,
    round: RoundIndex,  # noqa: A002 - the word of the protocol
) -> dict[SeatKey, SeatKey]:
    """Map each paired seat of a stage's roster to its partner; whoever is left over is absent.

    Two seats of one peer never pair: a peer trading with itself moves nothing. The order of ``peers``
    does not matter.
    """
    context = encode((stage, fragment, round))

    def draw(seat: SeatKey) -> Digest:
        return digest("pairing", beacon, run_digest, context, encode((seat.index, seat.peer)))

    waiting = sorted(set(peers), key=draw)
    pairs: dict[SeatKey, SeatKey] = {}
    while waiting:
        seat = waiting.pop(0)
        partner = next((other for other in waiting if other.peer != seat.peer), None)
        if partner is not None:
            waiting.remove(partner)
            pairs[seat], pairs[partner] = partner, seat
    return pairs
