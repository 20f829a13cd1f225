"""Say who trades with whom at the end of a run, until all replicas of a stage are one.

Core: pure functions of the beacon and the roster.

    2^k seats       butterfly: in round r, places whose numbers differ in bit r alone; exact after k rounds
    other rosters   gossip: random pairs, until what is left of a disagreement cannot be seen

Places are the seats in the order of a hash that the beacon seeds. In a butterfly a peer that holds two seats
may meet itself: that trade needs no message. Trades are float32, and so is their mean, so both
partners end a round with the same bits, and a butterfly ends with one hash.
Source: docs/spec/training.md section 5, docs/spec/protocol.md section 4.
"""

import math
from collections.abc import Mapping, Sequence

from swarm.codec import encode
from swarm.crypto import digest
from swarm.errors import UsageError
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.types import Digest, RoundIndex, StageIndex

STD_MAX = 1e-6
"""Replicas whose weights differ by less than this are one model."""
START_STD_MAX = 0.1
"""More than replicas ever differ by: a model whose weights do is not training."""
SPARE_ROUNDS = 6
"""Random pairs meet the same partner now and then; the mean contraction alone would be a coin flip."""
GOSSIP_FRAGMENT = -1
"""Stands for the fragment in the draw of gossip's pairs: a round of consensus trades whole shards."""


def is_butterfly(num_seats: int) -> bool:
    """Whether a roster of this size reaches exact consensus."""
    return num_seats > 0 and num_seats & (num_seats - 1) == 0


def consensus_rounds(num_seats: int) -> int:
    """How many rounds of consensus a roster takes: log2 of its size, or what gossip needs to ``STD_MAX``."""
    if num_seats < 0:
        raise UsageError("a roster has no negative size")
    if num_seats <= 1:
        return 0
    if is_butterfly(num_seats):
        return num_seats.bit_length() - 1
    halvings = math.log(STD_MAX / START_STD_MAX) / math.log(contraction(num_seats))
    return math.ceil(halvings) + SPARE_ROUNDS


def contraction(num_seats: int) -> float:
    """What one round of random pairs leaves of the standard deviation, in the mean square."""
    if num_seats < 2:
        raise UsageError("one seat alone does not disagree")
    return math.sqrt(1.0 - (num_seats // 2) / (num_seats - 1))


def consensus_pairs(
    seats: Sequence[SeatKey],
    beacon: Digest,
    run_digest: Digest,
    stage: StageIndex,
    round: int,  # noqa: A002 - the word of the protocol
) -> Mapping[SeatKey, SeatKey]:
    """Map each seat to its partner in round ``round`` of consensus; whoever is left over is absent.

    The order of ``seats`` does not matter. Raises ``UsageError`` for a round past ``consensus_rounds``.
    """
    roster = sorted(set(seats))
    if not 0 <= round < consensus_rounds(len(roster)):
        raise UsageError(f"{len(roster)} seats have no round {round} of consensus")
    if not is_butterfly(len(roster)):
        return pair_up(roster, beacon, run_digest, stage, GOSSIP_FRAGMENT, RoundIndex(round))
    context = encode((stage,))

    def draw(seat: SeatKey) -> Digest:
        return digest("consensus", beacon, run_digest, context, encode((seat.index, seat.peer)))

    places = sorted(roster, key=draw)
    return {seat: places[place ^ (1 << round)] for place, seat in enumerate(places)}
