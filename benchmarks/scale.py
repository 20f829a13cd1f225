"""Benchmark ``scale``: how long a sync takes when the swarm grows, for pairs and for a tree all-reduce.

First the cost of one message is measured: a fragment of a million parameters in int8, published by one real
host and pulled by another on loopback, until its values are there. Then syncs are simulated whose messages
take log-normal times of that mean (docs/spec/training.md section 7). A pair waits for two messages, each in
both directions; before that every peer computes all pairs of its stage, and that measured time counts. A tree
waits for the slowest of its branches, up and down.
"""

import math
import statistics
import time
from contextlib import AsyncExitStack
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import trio

from benchmarks.common import Outcome, say, spread
from swarm.executor import Executor
from swarm.gossip.pairing import SeatKey, pair_up
from swarm.gossip.trade.messages import FragmentKey
from swarm.gossip.trade.payload import FragmentPayload
from swarm.gossip.trade.pull import Wanted
from swarm.gossip.trade.service import Trades
from swarm.host.service import Host, open_host
from swarm.primitives.crypto import SecretKey, fast_digest
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex

NUMEL = 1 << 20
"""Values of a fragment; a run of 8M parameters has eight of them in a round."""
SIZES = (2, 16, 128, 1024, 4096)
VARIATIONS = (0.01, 0.5, 1.0, 2.0)
"""Coefficients of variation of a message's time; the figures are those of ``VARIATION``."""
VARIATION = 0.5
PULLS, PULLS_QUICK = 200, 20
WARM_PULLS = 3
TRADES, TRADES_QUICK = 100_000, 10_000
"""Simulated pairs, at least, for each size."""
TREES, TREES_QUICK = 400, 40
PAIRINGS = 9
PULL_TIMEOUT_S = 30.0
BEACON, RUN = Digest(bytes(32)), Digest(b"\x01" * 32)

Floats = npt.NDArray[np.float64]


def measure(quick: bool) -> Outcome:
    """Measure a message, then let swarms of each size sync."""
    pulls, trades, trees = (
        (PULLS_QUICK, TRADES_QUICK, TREES_QUICK) if quick else (PULLS, TRADES, TREES)
    )
    outcome = Outcome(
        {
            "message_parameters": NUMEL,
            "pulls": pulls,
            "variation": VARIATION,
            "trades": trades,
            "trees": trees,
            "sizes": list(SIZES),
        }
    )
    say(f"{pulls} fragments of {NUMEL} parameters on loopback")
    costs = trio.run(_message_costs, pulls)
    mean_s = statistics.fmean(costs)
    say(f"{mean_s * 1000:.2f} ms each; now the pairs of each size")
    pairing = {size: _pairing_s(size) for size in SIZES}
    outcome.detail |= {
        "message_s": spread(costs),
        "message_variation_measured": round(statistics.pstdev(costs) / mean_s, 3),
        "pairing_ms": {size: round(seconds * 1000, 3) for size, seconds in pairing.items()},
    }
    rng = np.random.default_rng(1)
    tables = dict[str, object]()
    for variation in VARIATIONS:
        say(f"syncs with a variation of {variation}")
        waits = {n: _pair_s(n, mean_s, variation, trades, rng) for n in SIZES}
        pairs = {n: wait_s + pairing[n] for n, wait_s in waits.items()}
        tree = {n: _tree_s(n, mean_s, variation, trees, rng) for n in SIZES}
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


async def _message_costs(pulls: int) -> list[float]:
    """Seconds of each pull, both hosts in this process: what both ends compute is in it."""
    costs, rng = list[float](), torch.Generator().manual_seed(0)
    compute = Executor(niceness=0, prepare=partial(torch.set_num_threads, 1))
    anchor = torch.randn(NUMEL, generator=rng)
    async with AsyncExitStack() as stack:
        stack.callback(compute.close)
        nursery = await stack.enter_async_context(trio.open_nursery())
        hosts, trades = list[Host](), list[Trades]()
        for number in (1, 2):
            secret = SecretKey.from_seed(bytes([number]) * 32)
            opened = open_host(secret, listen=["127.0.0.1:0"], chain16=bytes(16))
            hosts.append(await stack.enter_async_context(opened))
            trades.append(Trades(hosts[-1], secret, RUN, compute))
            await nursery.start(trades[-1].run)
        (sender, receiver), (sending, receiving) = hosts, trades
        await receiver.connect(sender.peer, sender.addresses())
        for number in range(WARM_PULLS + pulls):
            theta = anchor + 0.01 * torch.randn(NUMEL, generator=rng)
            key = FragmentKey(RunIndex(1), StageIndex(0), 0, RoundIndex(number), 0)
            wanted = Wanted(key, sender.peer, 1, BEACON, NUMEL)
            began = time.perf_counter()
            sending.publish(
                key, FragmentPayload(theta, anchor, BEACON, 1, 1), partner=receiver.peer
            )
            pulled = await receiving.pull(
                wanted, anchor, deadline=trio.current_time() + PULL_TIMEOUT_S
            )
            assert pulled is not None, "a pull on loopback"
            if number >= WARM_PULLS:
                costs.append(time.perf_counter() - began)
        nursery.cancel_scope.cancel()
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
    count: int, mean_s: float, variation: float, trades: int, rng: np.random.Generator
) -> float:
    """Mean over replicas and rounds of a pair's sync: the pairs are those of the protocol."""
    seats, total, done, round_index = _seats(count), 0.0, 0, 0
    while done < trades:
        pairs = pair_up(seats, BEACON, RUN, StageIndex(0), 0, RoundIndex(round_index))
        repeats = max(trades // (4 * count), 1)
        there = _times(mean_s, variation, (2, repeats, count), rng)
        partner = np.array([pairs[seat].index for seat in seats])
        # Both halves of a trade end when the slower direction has ended.
        total += float(np.maximum(there, there[:, :, partner]).sum(0).sum())
        done += repeats * count
        round_index += 1
    return total / done


def _tree_s(
    count: int, mean_s: float, variation: float, trees: int, rng: np.random.Generator
) -> float:
    """Mean time until the last of ``count`` replicas has the sum: up a binary tree, and down again."""
    ready = np.zeros((trees, count))
    while ready.shape[1] > 1:
        half = ready.shape[1] // 2
        sent = ready + _times(mean_s, variation, ready.shape, rng)
        # A parent waits for two children; one of them is the parent itself and has nothing to send.
        ready = np.maximum(ready[:, :half], sent[:, half:])
    while ready.shape[1] < count:
        received = ready + _times(mean_s, variation, ready.shape, rng)
        ready = np.concatenate([ready, received], 1)
    return float(ready.max(1).mean())


def _times(
    mean_s: float, variation: float, shape: tuple[int, ...], rng: np.random.Generator
) -> Floats:
    """Log-normal times of one mean, whatever their variation."""
    sigma = math.sqrt(math.log(1 + variation * variation))
    return rng.lognormal(math.log(mean_s) - sigma * sigma / 2, sigma, shape)
