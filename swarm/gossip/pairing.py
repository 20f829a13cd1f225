"""Pair the seats of a stage for trades and for the final averaging, from finalised state alone.

Core: pure functions of the beacon and the roster.

For each exchange every node sorts the roster by a hash seeded by the beacon and, in a round of training, pairs
neighbours: no messages are needed, no peer chooses its partner, and every peer can check the result. For a
partner that fails, every two seats have an edge, whose weight is a hash of both, the same from either end:
fallback partners are read off the heaviest edges (both ends choose a locally heaviest one: Hoepman 2004).

At the end of a run the replicas of a stage are averaged, round after round, until all hold the same mean.
Positions are the seats in the order of another such hash:

    2^k seats       k rounds: each pairs the positions whose numbers differ in exactly one bit
    other rosters   one more round before, in which each seat beyond the largest 2^k folds into one of the
                    positions, and one more after, in which it takes the result

A position is weighted by the number of seats it stands for, so the result is the mean of all. Trades are
float32 and the two weights of a trade add up to one, so both partners end a round with the same bits, and all
replicas end the last round with one hash.

Source: docs/spec/training.md sections 4 and 5, docs/spec/protocol.md section 4; the folding is that of an
all-reduce by recursive doubling (Thakur, Rabenseifner, Gropp 2005).
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from swarm.config.spec import NANO
from swarm.errors import UsageError
from swarm.primitives.codec import Message, encode
from swarm.primitives.crypto import digest, digests
from swarm.types import Digest, PeerId, RoundIndex, StageIndex

EDGES_CACHED = 256
"""Seats whose edges of one exchange are cached: each needs its own several times in a trade."""
PAIRINGS_CACHED = 512
"""Pairings cached, by stage, round and exchange: every seat of a stage needs the same ones, and a segment has
at most 256 leaves (``ledger.transactions.LEAVES_MAX``), so that two rounds fit."""


class SeatKey(Message, frozen=True, order=True):
    """Seat of one stage and the peer that holds it; the beacon draw hashes its encoding."""

    index: int
    peer: PeerId


def pair_up(
    peers: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    exchange: int,
    round: RoundIndex,  # noqa: A002 - the word of the protocol
) -> Mapping[SeatKey, SeatKey]:
    """Return the partner of each paired seat of a stage's roster; a seat that is left over is absent.

    ``exchange`` is its number in the round, which names the fragment and which of its trades it is.
    Two seats of one peer never pair: a peer trading with itself moves nothing. The order of ``peers`` does not
    matter. Takes one hash per seat and one sort; the result is cached and cannot be changed.
    """
    return _pairs(tuple(peers), beacon, run_digest, encode((stage, exchange, round)))


@lru_cache(maxsize=PAIRINGS_CACHED)
def _pairs(
    peers: tuple[SeatKey, ...], beacon: Digest, run_digest: Digest, context: bytes
) -> Mapping[SeatKey, SeatKey]:
    seats = list(dict.fromkeys(peers))
    draws = digests("pairing", (beacon, run_digest, context), map(encode, seats))
    held: deque[SeatKey] = deque()  # not paired yet, oldest first; all seats of one peer
    pairs: dict[SeatKey, SeatKey] = {}
    for position in sorted(range(len(seats)), key=draws.__getitem__):
        seat = seats[position]
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
    exchange: int,
    round: RoundIndex,  # noqa: A002 - the word of the protocol
) -> tuple[SeatKey, ...]:
    """Return all seats of other peers, the one with the heaviest edge to ``seat`` first.

    An edge weighs the same from both ends, so two seats that are each other's heaviest choose each other. The
    order of ``peers`` does not matter. Takes one hash per seat; the result is cached.
    """
    return _edges(seat, tuple(peers), beacon, run_digest, encode((stage, exchange, round)))


@lru_cache(maxsize=EDGES_CACHED)
def _edges(
    seat: SeatKey, peers: tuple[SeatKey, ...], beacon: Digest, run_digest: Digest, context: bytes
) -> tuple[SeatKey, ...]:
    others = sorted({other for other in peers if other.peer != seat.peer})
    ends = (encode((min(seat, other), max(seat, other))) for other in others)
    weights = digests("pairing-edge", (beacon, run_digest, context), ends)
    positions = sorted(range(len(others)), key=weights.__getitem__, reverse=True)
    return tuple(others[position] for position in positions)


FINAL_ROUNDS_MAX = 16
"""Rounds of final averaging that a peer may claim: more than any roster takes."""


@dataclass(frozen=True, slots=True)
class FinalTrade:
    """One side of one trade of the final averaging."""

    partner: SeatKey
    weight_nano: int
    """Weight of the partner's state in billionths; 0 if this side only sends."""


def final_rounds(num_seats: int) -> int:
    """Return the number of rounds that the final averaging of a roster takes.

    This is log2 of its size, or two more than its integer part if the size is not a power of two; 0 for fewer
    than two seats. Raises ``UsageError`` for a negative size.
    """
    if num_seats < 0:
        raise UsageError("a roster has no negative size")
    if num_seats <= 1:
        return 0
    bits = num_seats.bit_length() - 1
    return bits if num_seats == 1 << bits else bits + 2


def final_trades(
    seats: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    round: int,  # noqa: A002 - the word of the protocol
) -> dict[SeatKey, FinalTrade]:
    """Return the trade of each seat in one round of the final averaging; seats that do not trade are absent.

    Args:
        seats: roster of the stage, in any order; the same in all rounds.
        beacon: seed of the order; the same in all rounds.
        run_digest: digest of the run spec.
        stage: index of the stage.
        round: round of the final averaging, counted from 0; after the last one no seat trades.

    Raises:
        UsageError: ``round`` is negative.
    """
    if round < 0:
        raise UsageError("rounds of the final averaging are counted from 0")
    context = encode((stage,))

    def draw(seat: SeatKey) -> Digest:
        return digest("consensus", beacon, run_digest, context, encode((seat.index, seat.peer)))

    positions = sorted(set(seats), key=draw)
    if round >= final_rounds(len(positions)):
        return {}
    bits = len(positions).bit_length() - 1
    core = 1 << bits
    folded = len(positions) - core
    bit = round - (folded > 0)
    if 0 <= bit < bits:
        return _butterfly(positions[:core], folded, bit)
    pairs = [(positions[core + extra], positions[extra]) for extra in range(folded)]
    out, back = (NANO // 2, NANO // 2) if round == 0 else (NANO, 0)
    outer = {extra: FinalTrade(inner, out) for extra, inner in pairs}
    return outer | {inner: FinalTrade(extra, back) for extra, inner in pairs}


def _butterfly(positions: Sequence[SeatKey], folded: int, bit: int) -> dict[SeatKey, FinalTrade]:
    """Return the trades of positions that differ in ``bit``; the first ``folded`` stand for two seats each."""
    width = 1 << bit
    groups = range(0, len(positions), width)
    stands = [width + max(min(folded - start, width), 0) for start in groups]
    trades: dict[SeatKey, FinalTrade] = {}
    for position, seat in enumerate(positions):
        group = position // width
        low, high = stands[group & ~1], stands[group | 1]
        share_of_high = NANO * high // (low + high)
        share = NANO - share_of_high if group & 1 else share_of_high
        trades[seat] = FinalTrade(positions[position ^ width], share)
    return trades
