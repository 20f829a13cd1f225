"""Count what the peers of a run put into blocks in one round, and what that makes in a day.

Four stages of exact numerics, segments of 50 steps in windows of 10, two verifiers drawn for a segment on
average (q = 1, as in the packaged demo), rounds of 40 s. All statements are signed, drawn and applied as the
rules say; checkpoints, four in every other round, are left out.
"""

from collections import Counter
from collections.abc import Sequence

from benchmarks.crowd import ROUND_BLOCKS, Crowd
from swarm.ledger.mempool import Mempool
from swarm.ledger.transactions import parse_transaction
from swarm.ledger.transition.runs import boundary_height
from swarm.primitives.codec import encode, replace

NUM_STAGES = 4
REPLICAS = (8, 64, 256)
ROUND_S = 40
LONG_ROUND_S = 300
"""Seconds of a round of the packaged `125m`."""
COUNTED_ROUND = 2
"""Round in whose blocks statements are counted: the segments of the one before are checked in it."""


def traffic_table(replicas: Sequence[int] = REPLICAS) -> dict[str, object]:
    """Return, by number of replicas, transactions and bytes of one round, and megabytes of a day."""
    return {f"replicas_{count}": _traffic(count) for count in replicas}


def _traffic(replicas: int) -> dict[str, object]:
    crowd, pool = Crowd.seated(NUM_STAGES, replicas), Mempool()
    begin = boundary_height(crowd.run, COUNTED_ROUND)
    kinds, num_bytes, overhead = Counter[str](), 0, 0
    while crowd.ledger.state.height < begin + ROUND_BLOCKS - 1:
        body = crowd.block(pool)
        if crowd.ledger.state.height >= begin:
            num_bytes += sum(map(len, body))
            kinds.update(type(parse_transaction(data).body).__name__ for data in body)
            block, certificate = crowd.ledger.links[-1]
            overhead += len(encode(replace(block, transactions=()))) + len(encode(certificate))
    megabytes = (num_bytes + overhead) * 24 * 3_600 / 1e6
    return {
        "seats": NUM_STAGES * replicas,
        "transactions_a_round": kinds.total(),
        "bytes_a_round": num_bytes,
        "bytes_of_headers_a_round": overhead,
        "mb_a_day": round(megabytes / ROUND_S, 1),
        "mb_a_day_with_rounds_of_300_s": round(megabytes / LONG_ROUND_S, 1),
        "kinds": dict(kinds),
        "left_in_pool": len(pool),
    }
