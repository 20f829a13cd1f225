"""Say who trades with whom at the end of a run, until all replicas of a stage are one.

Core: pure functions of the beacon and the roster.

    2^k seats       k rounds: in each, places whose numbers differ in one bit alone
    other rosters   one round more before, in which whoever is past the largest 2^k folds into a place of it,
                    and one more after, in which it takes the result

Places are the seats in the order of a hash that the beacon seeds. A place weighs as many seats as it stands
for, so the end is the mean of all. Trades are float32 and the two shares of a trade add up to one, so both
partners end a round with the same bits, and the last round with one hash.
Source: docs/spec/training.md section 5, docs/spec/protocol.md section 4; the folding is that of an all-reduce
by recursive doubling (Thakur, Rabenseifner, Gropp 2005).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from swarm.codec import encode
from swarm.crypto import digest
from swarm.errors import UsageError
from swarm.gossip.pairing import SeatKey
from swarm.spec import NANO
from swarm.types import Digest, StageIndex

CONSENSUS_ROUNDS_MAX = 16
"""More than any roster takes: a bound for what strangers say of their round."""


@dataclass(frozen=True, slots=True)
class ConsensusTrade:
    """One side of one trade."""

    partner: SeatKey
    weight_nano: int
    """The partner's share in billionths; 0: this side only gives."""


def consensus_rounds(num_seats: int) -> int:
    """How many rounds of consensus a roster takes: log2 of its size, or two more than its integer part."""
    if num_seats < 0:
        raise UsageError("a roster has no negative size")
    if num_seats <= 1:
        return 0
    bits = num_seats.bit_length() - 1
    return bits if num_seats == 1 << bits else bits + 2


def consensus_trades(
    seats: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    round: int,  # noqa: A002 - the word of the protocol
) -> dict[SeatKey, ConsensusTrade]:
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
    if round >= consensus_rounds(len(places)):
        return {}
    bits = len(places).bit_length() - 1
    core = 1 << bits
    folded = len(places) - core
    bit = round - (folded > 0)
    if 0 <= bit < bits:
        return _butterfly(places[:core], folded, bit)
    pairs = [(places[core + extra], places[extra]) for extra in range(folded)]
    out, back = (NANO // 2, NANO // 2) if round == 0 else (NANO, 0)
    outer = {extra: ConsensusTrade(inner, out) for extra, inner in pairs}
    return outer | {inner: ConsensusTrade(extra, back) for extra, inner in pairs}


def _butterfly(places: Sequence[SeatKey], folded: int, bit: int) -> dict[SeatKey, ConsensusTrade]:
    """The trades between places that differ in ``bit``; the first ``folded`` stand for two seats each."""
    width = 1 << bit
    groups = range(0, len(places), width)
    stands = [width + max(min(folded - start, width), 0) for start in groups]
    trades: dict[SeatKey, ConsensusTrade] = {}
    for place, seat in enumerate(places):
        group = place // width
        low, high = stands[group & ~1], stands[group | 1]
        share_of_high = NANO * high // (low + high)
        share = NANO - share_of_high if group & 1 else share_of_high
        trades[seat] = ConsensusTrade(places[place ^ width], share)
    return trades
