"""How news spreads, for ``scripts/bench net``: over 64 simulated peers that lose frames, and over real sockets.

The simulation is ``swarm/testing/news.py``: the machine that a node runs, in virtual time, over links of 20 to
150 ms each way that lose one frame in a hundred.
"""

import random
import secrets
import time
from collections.abc import Sequence

from benchmarks.common import spread
from benchmarks.wire_children import Child
from swarm.testing.news import DELAY_MS_MAX, DELAY_MS_MIN, NewsNetwork, connected_at_random

PEERS = 64
LINKS_DIALLED = 8
"""Links that each dials, as a node does (rule H26)."""
LOST_PER_MILLE = 10
NOTICES, NOTICES_QUICK = 100, 10
SEEDS, SEEDS_QUICK = 5, 1
PAUSE_S = 0.1
IN_TIME_S = 3.0
WARM_UP_S, REST_S = 5.0, 15.0


def simulated(quick: bool) -> tuple[dict[str, object], dict[str, object]]:
    """Let peers publish; return the figures, and what they come from."""
    delays_s, num_bytes, num_notices = list[float](), 0, 0
    for seed in range(SEEDS_QUICK if quick else SEEDS):
        network = NewsNetwork(seed, lost_per_mille=LOST_PER_MILLE)
        peers = connected_at_random(network, PEERS, LINKS_DIALLED)
        dice = random.Random(seed)
        network.run(WARM_UP_S)
        for number in range(NOTICES_QUICK if quick else NOTICES):
            data = number.to_bytes(2, "big") + dice.randbytes(300)
            network.publish(dice.choice(peers), data)
            network.run(PAUSE_S)
        network.run(REST_S)
        delays_s += network.delays_s()
        num_bytes += sum(peer.num_bytes for peer in peers)
        num_notices += len(network.published)
    delays_s.sort()
    in_time = sum(delay <= IN_TIME_S for delay in delays_s)
    figures: dict[str, object] = {
        "pubsub_delivery": round(in_time / len(delays_s), 6),
        "pubsub_p95_s": round(delays_s[int(0.95 * len(delays_s))], 4),
    }
    detail: dict[str, object] = {
        "peers": PEERS,
        "links_dialled": LINKS_DIALLED,
        "lost_frames": LOST_PER_MILLE / 1000,
        "delay_ms": [DELAY_MS_MIN, DELAY_MS_MAX],
        "notices": num_notices,
        "deliveries": len(delays_s),
        "within_s": IN_TIME_S,
        "p50_s": delays_s[len(delays_s) // 2],
        "max_s": delays_s[-1],
        "bytes_per_peer_and_notice": round(num_bytes / PEERS / num_notices),
    }
    return figures, detail


def over_sockets(children: Sequence[Child], dice: random.Random, count: int) -> dict[str, object]:
    """Let real peers publish; return how long it took to each of the others. They share a clock."""
    said = dict[str, float]()
    for _ in range(count):
        text = secrets.token_hex(150)
        said[text] = time.time()
        dice.choice(children).request({"do": "say", "payload": text})
        time.sleep(PAUSE_S)
    time.sleep(IN_TIME_S)
    delays_s, missing = list[float](), 0
    for child in children:
        heard = child.request({"do": "heard"})["heard"]
        assert isinstance(heard, dict), "a time for each text"
        missing += len(said) - len(heard)
        delays_s += [float(at) - said[text] for text, at in heard.items() if at is not None]
    return {"notices": count, "missing": missing, "delay": spread_of_many(delays_s)}


def spread_of_many(values: Sequence[float]) -> dict[str, object]:
    """Return median and extremes, without the values themselves."""
    return {name: value for name, value in spread(values).items() if name != "values"}
