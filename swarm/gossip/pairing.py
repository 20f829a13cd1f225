"""Say who averages with whom, from finalised state alone.

Core: pure functions of the beacon and the roster.

Everybody sorts the roster by a hash that the beacon seeds and pairs neighbours: no messages, nobody
chooses a partner, anyone can recheck. For a partner that fails, every two seats have an edge, whose weight is
a hash of both, the same from either end: who steps in is read off the heaviest edges (both ends choose a
locally heaviest one: Hoepman 2004). Source: docs/spec/training.md section 4, docs/spec/protocol.md section 4.

Say who trades with whom at the end of a run, until all replicas of a stage are one.

    2^k seats       k rounds: in each, places whose numbers differ in one bit alone
    other rosters   one round more before, in which whoever is past the largest 2^k folds into a place of it,
                    and one more after, in which it takes the result

Places are the seats in the order of a hash that the beacon seeds. A place weighs as many seats as it stands
for, so the end is the mean of all. Trades are float32 and the two shares of a trade add up to one, so both
partners end a round with the same bits, and the last round with one hash.
Source: docs/spec/training.md section 5, docs/spec/protocol.md section 4; the folding is that of an all-reduce
by recursive doubling (Thakur, Rabenseifner, Gropp 2005).
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


FINAL_ROUNDS_MAX = 16
"""More than any roster takes: a bound for what strangers say of their round."""


@dataclass(frozen=True, slots=True)
class FinalTrade:
    """One side of one trade."""

    partner: SeatKey
    weight_nano: int
    """The partner's share in billionths; 0: this side only gives."""


def final_rounds(num_seats: int) -> int:
    """How many rounds of consensus a roster takes: log2 of its size, or two more than its integer part."""
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
    """Map each seat that trades in round ``round`` of consensus to its trade; the others are absent.

    Neither the order of ``seats`` matters, nor how far ``round`` goes: after the last one nobody trades. All
    rounds take the same ``beacon`` and the same seats. Raises ``UsageError`` for a negative round.
    """
    if round < 0:
        raise UsageError("rounds of consensus are counted from 0")
    context = encode((stage,))

    def draw(seat: SeatKey) -> Digest:
        return digest("consensus", beacon, run_digest, context, encode((seat.index, seat.peer)))

    places = sorted(set(seats), key=draw)
    if round >= final_rounds(len(places)):
        return {}
    bits = len(places).bit_length() - 1
    core = 1 << bits
    folded = len(places) - core
    bit = round - (folded > 0)
    if 0 <= bit < bits:
        return _butterfly(places[:core], folded, bit)
    pairs = [(places[core + extra], places[extra]) for extra in range(folded)]
    out, back = (NANO // 2, NANO // 2) if round == 0 else (NANO, 0)
    outer = {extra: FinalTrade(inner, out) for extra, inner in pairs}
    return outer | {inner: FinalTrade(extra, back) for extra, inner in pairs}


def _butterfly(places: Sequence[SeatKey], folded: int, bit: int) -> dict[SeatKey, FinalTrade]:
    """The trades between places that differ in ``bit``; the first ``folded`` stand for two seats each."""
    width = 1 << bit
    groups = range(0, len(places), width)
    stands = [width + max(min(folded - start, width), 0) for start in groups]
    trades: dict[SeatKey, FinalTrade] = {}
    for place, seat in enumerate(places):
        group = place // width
        low, high = stands[group & ~1], stands[group | 1]
        share_of_high = NANO * high // (low + high)
        share = NANO - share_of_high if group & 1 else share_of_high
        trades[seat] = FinalTrade(places[place ^ width], share)
    return trades
