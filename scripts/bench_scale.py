"""Benchmark ``scale``: how long a sync takes when the swarm grows, for pairs and for a tree all-reduce.

First the cost of one message is measured: a mebibyte of chunks, asked for and answered between two real hosts
on loopback. Then syncs are simulated whose messages take log-normal times of that mean (docs/spec/training.md
section 7). A pair waits for two messages, each in both directions; before that every peer computes all pairs of
its stage, and that measured time counts. A tree waits for the slowest of its branches, up and down.
"""

import math
import os
import statistics
import time
from contextlib import AsyncExitStack

import numpy as np
import numpy.typing as npt
import trio

from scripts.bench_common import Outcome, say, spread
from swarm.crypto import SecretKey, fast_digest
from swarm.gossip.messages import CHUNKS_PER_REPLY_MAX, EXCHANGE_CHUNK_BYTES
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.host.service import Host, open_host
from swarm.types import Digest, PeerId, RoundIndex, StageIndex

PROTOCOL = "/swarm/bench/1"
MESSAGE_BYTES = CHUNKS_PER_REPLY_MAX * EXCHANGE_CHUNK_BYTES
"""What one call of a trade brings at most."""
SIZES = (2, 16, 128, 1024, 4096)
VARIATIONS = (0.01, 0.5, 1.0, 2.0)
"""Coefficients of variation of a message's time; the figures are those of ``VARIATION``."""
VARIATION = 0.5
CALLS, CALLS_QUICK = 200, 20
WARM_CALLS = 3
TRADES, TRADES_QUICK = 100_000, 10_000
"""Simulated pairs, at least, for each size."""
TREES, TREES_QUICK = 400, 40
PAIRINGS = 9
CALL_TIMEOUT_S = 30.0
BEACON, RUN = Digest(bytes(32)), Digest(b"\x01" * 32)

Floats = npt.NDArray[np.float64]


def measure(quick: bool) -> Outcome:
    """Measure a message, then let swarms of each size sync."""
    calls, trades, trees = (
        (CALLS_QUICK, TRADES_QUICK, TREES_QUICK) if quick else (CALLS, TRADES, TREES)
    )
    outcome = Outcome(
        {
            "message_bytes": MESSAGE_BYTES,
            "calls": calls,
            "variation": VARIATION,
            "trades": trades,
            "trees": trees,
            "sizes": list(SIZES),
        }
    )
    say(f"{calls} messages of {MESSAGE_BYTES} bytes on loopback")
    costs = trio.run(_message_costs, calls)
    mean_s = statistics.fmean(costs)
    say(f"{mean_s * 1000:.2f} ms each; now the pairs of each size")
    pairing = {size: _pairing_s(size) for size in SIZES}
    outcome.detail |= {
        "message_s": spread(costs),
        "message_variation_measured": round(statistics.pstdev(costs) / mean_s, 3),
        "pairing_ms": {size: round(seconds * 1000, 3) for size, seconds in pairing.items()},
    }
    dice = np.random.default_rng(1)
    tables = dict[str, object]()
    for variation in VARIATIONS:
        say(f"syncs with a variation of {variation}")
        waits = {n: _pair_s(n, mean_s, variation, trades, dice) for n in SIZES}
        pairs = {n: wait_s + pairing[n] for n, wait_s in waits.items()}
        tree = {n: _tree_s(n, mean_s, variation, trees, dice) for n in SIZES}
        tables[str(variation)] = {
            "pair_s": {n: round(value, 5) for n, value in pairs.items()},
            "tree_s": {n: round(value, 5) for n, value in tree.items()},
            "pair_formula_s": round(pair_formula_s(mean_s, variation), 5),
            "tree_over_pair_1024": round(tree[1024] / pairs[1024], 2),
            "pair_ratio_4096_without_pairing": round(waits[4096] / waits[2], 4),
        }
        if variation == VARIATION:
            outcome.figures |= {
                "pair_sync_ratio_1024": round(pairs[1024] / pairs[2], 4),
                "tree_sync_ratio_1024": round(tree[1024] / tree[2], 4),
                "pair_sync_ratio_4096": round(pairs[4096] / pairs[2], 4),
            }
    outcome.detail["by_variation"] = tables
    return outcome


def pair_formula_s(mean_s: float, variation: float) -> float:
    """2 (1 + erf(sigma / 2)) e^(mu + sigma^2 / 2): what a pair's sync takes on average."""
    sigma = math.sqrt(math.log(1 + variation * variation))
    return 2 * (1 + math.erf(sigma / 2)) * mean_s


async def _message_costs(calls: int) -> list[float]:
    """Seconds of each call, both hosts in this process: what both ends compute is in it."""
    data = os.urandom(MESSAGE_BYTES)

    async def answer(peer: PeerId, request: bytes) -> bytes:  # noqa: ARG001
        return data

    costs = list[float]()
    async with AsyncExitStack() as stack:
        hosts = list[Host]()
        for number in (1, 2):
            secret = SecretKey.from_seed(bytes([number]) * 32)
            opened = open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16))
            hosts.append(await stack.enter_async_context(opened))
        giver, taker = hosts
        giver.serve(PROTOCOL, answer, request_limit=64)
        await taker.connect(giver.peer, giver.addresses())
        for number in range(WARM_CALLS + calls):
            began = time.perf_counter()
            await taker.call(
                giver.peer,
                PROTOCOL,
                b"more",
                timeout_s=CALL_TIMEOUT_S,
                reply_limit=MESSAGE_BYTES + 64,
            )
            if number >= WARM_CALLS:
                costs.append(time.perf_counter() - began)
    return costs


def _seats(count: int) -> list[SeatKey]:
    return [
        SeatKey(i, PeerId(fast_digest("bench-seat", i.to_bytes(4, "big")))) for i in range(count)
    ]


def _pairing_s(count: int) -> float:
    """Seconds of a core for all pairs of a stage; each round is another, so that nothing is remembered."""
    seats, spent = _seats(count), list[float]()
    for round_index in range(PAIRINGS):
        began = time.process_time()
        pair_up(seats, BEACON, RUN, StageIndex(0), 0, RoundIndex(round_index))
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def _pair_s(
    count: int, mean_s: float, variation: float, trades: int, dice: np.random.Generator
) -> float:
    """Mean over replicas and rounds of a pair's sync: the pairs are those of the protocol."""
    seats, total, done, round_index = _seats(count), 0.0, 0, 0
    while done < trades:
        pairs = pair_up(seats, BEACON, RUN, StageIndex(0), 0, RoundIndex(round_index))
        repeats = max(trades // (4 * count), 1)
        there = _times(mean_s, variation, (2, repeats, count), dice)
        partner = np.array([pairs[seat].index for seat in seats])
        # Both halves of a trade end when the slower direction has ended.
        total += float(np.maximum(there, there[:, :, partner]).sum(0).sum())
        done += repeats * count
        round_index += 1
    return total / done


def _tree_s(
    count: int, mean_s: float, variation: float, trees: int, dice: np.random.Generator
) -> float:
    """Mean time until the last of ``count`` replicas has the sum: up a binary tree, and down again."""
    ready = np.zeros((trees, count))
    while ready.shape[1] > 1:
        half = ready.shape[1] // 2
        sent = ready + _times(mean_s, variation, ready.shape, dice)
        # A parent waits for two children; one of them is the parent itself and has nothing to send.
        ready = np.maximum(ready[:, :half], sent[:, half:])
    while ready.shape[1] < count:
        received = ready + _times(mean_s, variation, ready.shape, dice)
        ready = np.concatenate([ready, received], 1)
    return float(ready.max(1).mean())


def _times(
    mean_s: float, variation: float, shape: tuple[int, ...], dice: np.random.Generator
) -> Floats:
    """Log-normal times of one mean, whatever their variation."""
    sigma = math.sqrt(math.log(1 + variation * variation))
    return dice.lognormal(math.log(mean_s) - sigma * sigma / 2, sigma, shape)
