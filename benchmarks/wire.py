"""Measure one exchange of weights: ours, hivemind's averager and torch's gloo, on loopback and a narrow line.

Two peers swap 10M float32 parameters, both directions at once, over kept connections: on loopback, and through
a proxy of 100 ms round trip and 20 Mbit/s each way. Ours includes quantizing, signing, encrypting, checking and
mixing; a peer knows its partner already, where hivemind looks for a group in the same call (what that takes is
measured with a vector of a thousand). Four of ours make two rounds in pairs, which averages all four. All
systems take turns; of each round the slowest peer counts. In detail, over our own transport alone: what four
peers send and wait for in one outer step, by NoLoCo (one pair each), by DiLoCo (an all-reduce of float32), and
in one synchronous step (the same of gradients, whose sum is exact).
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.common import Outcome, median, say, spread
from benchmarks.wire_children import START_S, Child, ChildError, Proxy, scratch, slowest_s, together
from swarm.gossip.trade.messages import Codec, FragmentKey
from swarm.gossip.trade.payload import FragmentPayload, open_payload, pack
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex

NUMEL, NUMEL_QUICK = 10_000_000, 1_000_000
REPEATS, REPEATS_QUICK = 7, 2
WARM_UPS = 2
"""Rounds before the first that counts: connections are kept, windows are open."""
DELAY_MS = 50.0
BYTES_PER_S = 20e6 / 8
PROXIED_SHARE_MIN = 0.9
"""A round through the proxy counts only if its bytes went through the proxy."""
TINY = 1000
DELTA_STD = 0.01

Play = Callable[[], float]


def measure(quick: bool) -> Outcome:
    """Measure all systems in turns: near, far, four."""
    numel, repeats = (NUMEL_QUICK, REPEATS_QUICK) if quick else (NUMEL, REPEATS)
    outcome = Outcome(
        {
            "numel": numel,
            "repeats": repeats,
            "warm_ups": WARM_UPS,
            "wan": {"round_trip_ms": 2 * DELAY_MS, "mbit_per_s": BYTES_PER_S * 8 / 1e6},
            "codec": "int8 with zstandard; int4 and one round of four in detail",
        }
    )
    near = _Table(outcome, repeats)
    with ExitStack() as stack:
        near.add("pair_10m_s", partial(_swarm, stack, numel))
        near.add("hivemind_10m_s", partial(_hivemind, stack, numel))
        near.add("hivemind_fp16_10m_s", partial(_hivemind, stack, numel, fp16=True))
        near.add("gloo_10m_s", partial(_gloo, stack, numel))
        near.add("hivemind_matchmaking_s", partial(_hivemind, stack, TINY))
        near.add("pair_int4_10m_s", partial(_swarm, stack, numel, codec="INT4"), is_detail=True)
        near.play("loopback")
    far = _Table(outcome, repeats)
    with ExitStack() as stack:
        far.add("pair_10m_wan_s", partial(_far_swarm, stack, numel, "INT8", outcome))
        far.add("hivemind_10m_wan_s", partial(_hivemind, stack, numel, is_far=True))
        far.add("hivemind_fp16_10m_wan_s", partial(_hivemind, stack, numel, fp16=True, is_far=True))
        far.add("gloo_10m_wan_s", partial(_gloo, stack, numel, is_far=True))
        matchmaking = partial(_hivemind, stack, TINY, is_far=True)
        far.add("hivemind_matchmaking_wan_s", matchmaking, is_detail=True)
        far_int4 = partial(_far_swarm, stack, numel, "INT4", outcome)
        far.add("pair_int4_10m_wan_s", far_int4, is_detail=True)
        far.play("100 ms and 20 Mbit/s")
    four = _Table(outcome, repeats)
    with ExitStack() as stack:
        four.add("four_10m_s", partial(_swarm, stack, numel, peers=4))
        four.add("hivemind_four_10m_s", partial(_hivemind, stack, numel, peers=4))
        four.play("four peers")
    outer = _Table(outcome, repeats)
    with ExitStack() as stack:
        steps = _OuterSteps(stack, numel, outcome)
        for kind in ("noloco", "diloco", "sync"):
            outer.add(f"{kind}_four_10m_s", partial(steps.start, kind), is_detail=True)
        outer.play("an outer step of four peers")
    _errors(numel, outcome)
    _ratios(outcome)
    return outcome


class _Table:
    """Systems that take turns under the same conditions."""

    def __init__(self, outcome: Outcome, repeats: int) -> None:
        self._outcome = outcome
        self._repeats = repeats
        self._plays: dict[str, Play] = {}
        self._seconds: dict[str, list[float]] = {}
        self._details: set[str] = set()

    def add(self, key: str, start: Callable[[], Play], *, is_detail: bool = False) -> None:
        """Start one system; if it cannot start, its figure is None and the reason in detail."""
        self._seconds[key] = []
        if is_detail:
            self._details.add(key)
        try:
            self._plays[key] = start()
        except (ChildError, OSError, KeyError) as error:
            self._failed(key, error)

    def play(self, where: str) -> None:
        """Run A B C A B C ..., warm-ups first; medians become figures."""
        for number in range(-WARM_UPS, self._repeats):
            for key in list(self._plays):
                try:
                    seconds = self._plays[key]()
                except ChildError as error:
                    self._failed(key, error)
                    continue
                if number >= 0:
                    self._seconds[key].append(seconds)
            medians = ", ".join(
                f"{key} {values[-1]:.3f}" for key, values in self._seconds.items() if values
            )
            say(f"{where}, {number + 1 + WARM_UPS} of {self._repeats + WARM_UPS}: {medians}")
        for key, values in self._seconds.items():
            if key not in self._details:
                self._outcome.figures[key] = median(values)
            self._outcome.detail[key] = spread(values)

    def _failed(self, key: str, error: Exception) -> None:
        say(f"{key} failed: {error}")
        self._plays.pop(key, None)
        self._seconds[key] = []
        self._outcome.detail[f"{key}_reason"] = str(error) or type(error).__name__


def _start(stack: ExitStack, module: str, *arguments: object) -> Child:
    child = Child(module, *(str(argument) for argument in arguments))
    stack.callback(child.close)
    return child


def _swarm(
    stack: ExitStack,
    numel: int,
    *,
    peers: int = 2,
    codec: str = "INT8",
    proxy: list[Proxy] | None = None,
) -> Play:
    """Peers of ours, each connected to all others; with ``proxy`` through a proxy, which is put into it."""
    if codec not in Codec.__members__:
        raise ChildError(f"{codec} is not traded by this version")
    children, names = _met(stack, numel, peers, proxy)
    rounds = 0

    def play() -> float:
        nonlocal rounds
        total = 0.0
        for bit in range(peers.bit_length() - 1):
            partners = [seat ^ 1 << bit for seat in range(peers)]
            orders = [_trade(rounds, partner, names, codec, not bit) for partner in partners]
            total += slowest_s(together(children, orders))
            rounds += 1
        return total

    return play


def _met(
    stack: ExitStack, numel: int, peers: int, proxy: list[Proxy] | None = None
) -> tuple[list[Child], list[str]]:
    """Peers of ours, each connected to all others, and their names."""
    args = [("--seat", seat, "--numel", numel) for seat in range(peers)]
    children = [_start(stack, "benchmarks.wire_swarm", *each) for each in args]
    greetings = [child.receive(START_S) for child in children]
    for seat, name in enumerate(greetings):
        address = str(name["addresses"][0])  # type: ignore[index]
        if proxy is not None and seat == 0:
            proxy.append(_open_proxy(stack, address))
            address = _moved(address, proxy[0].port)
        for child in children[seat + 1 :]:
            child.request({"do": "connect", "peer": name["peer"], "address": address})
    return children, [str(name["peer"]) for name in greetings]


def _trade(
    round_index: int, partner: int, names: list[str], codec: str, is_fresh: bool
) -> dict[str, object]:
    args = {"peer": names[partner], "seat": partner, "fresh": is_fresh, "codec": codec}
    return {"do": "trade", "round": round_index, **args}


class _OuterSteps:
    """Four peers of ours that end an outer step in the ways of NoLoCo, DiLoCo and data parallelism."""

    def __init__(self, stack: ExitStack, numel: int, outcome: Outcome) -> None:
        self._stack = stack
        self._numel = numel
        self._outcome = outcome
        self._peers: tuple[list[Child], list[str]] | None = None
        self._rounds = 0

    def start(self, kind: str) -> Play:
        """Start the four, if they are not there yet."""
        self._peers = self._peers or _met(self._stack, self._numel, 4)
        return partial(self._play, kind, *self._peers)

    def _play(self, kind: str, children: list[Child], names: list[str]) -> float:
        """Take one step of all four; note what each sent."""
        number = self._rounds
        self._rounds += 1
        orders: list[dict[str, object]] = [
            _trade(number, seat ^ 1, names, "INT8", True)
            if kind == "noloco"
            else {"do": "reduce", "round": number, "peers": names, "kind": kind}
            for seat in range(len(names))
        ]
        answers = together(children, orders)
        sent = max(int(str(answer["sent"])) for answer in answers)
        self._outcome.detail[f"bytes_per_param_{kind}"] = round(sent / self._numel, 3)
        return slowest_s(answers)


def _far_swarm(stack: ExitStack, numel: int, codec: str, outcome: Outcome) -> Play:
    """Measure two of ours through the proxy; what it carried gives the bytes per parameter."""
    key = f"bytes_per_param_{codec.lower()}"
    outcome.figures[key] = None
    proxies = list[Proxy]()
    inner = _swarm(stack, numel, codec=codec, proxy=proxies)
    rounds, series = 0, list[float]()

    def play() -> float:
        nonlocal rounds
        before = sum(proxies[0].carried())
        seconds = inner()
        rounds += 1
        if rounds > WARM_UPS:
            series.append((sum(proxies[0].carried()) - before) / 2 / numel)
            outcome.figures[key], outcome.detail[key] = median(series), spread(series)
        return seconds

    return play


def _hivemind(
    stack: ExitStack, numel: int, *, peers: int = 2, fp16: bool = False, is_far: bool = False
) -> Play:
    if find_spec("hivemind") is None:
        raise ChildError("hivemind is not installed; pip install -c constraints.txt -e '.[relay]'")
    args = ["--numel", numel, "--group", peers, *(["--fp16"] if fp16 else [])]
    first = _start(stack, "benchmarks.wire_hivemind", "--seat", 0, *args)
    address = str(first.receive(START_S)["addresses"][0])  # type: ignore[index]
    proxy = _open_proxy(stack, address) if is_far else None
    if proxy is not None:
        address = _moved(address, proxy.port)
    children = [first]
    for seat in range(1, peers):
        child = _start(stack, "benchmarks.wire_hivemind", "--seat", seat, "--first", address, *args)
        child.receive(START_S)
        children.append(child)

    def play() -> float:
        before = sum(proxy.carried()) if proxy is not None else 0
        seconds = slowest_s(together(children, [{}] * peers))
        if proxy is not None and numel > TINY:
            _check_proxied(sum(proxy.carried()) - before, numel * (2 if fp16 else 4))
        return seconds

    return play


def _gloo(stack: ExitStack, numel: int, *, is_far: bool = False) -> Play:
    folder = scratch()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    narrow = ["--narrow", DELAY_MS, BYTES_PER_S] if is_far else []
    args = ["--numel", numel, "--store", folder / "store", *narrow]
    children = [_start(stack, "benchmarks.wire_gloo", "--seat", seat, *args) for seat in range(2)]
    for child in children:
        child.receive(START_S)

    def play() -> float:
        answers = together(children, [{}] * 2)
        if is_far:
            _check_proxied(sum(int(str(answer["carried"])) for answer in answers), 4 * numel)
        return slowest_s(answers)

    return play


def _check_proxied(carried: int, least_each_way: int) -> None:
    if carried < 2 * PROXIED_SHARE_MIN * least_each_way:
        raise ChildError(f"only {carried} bytes went through the proxy")


def _open_proxy(stack: ExitStack, address: str) -> Proxy:
    """Open a narrow line to a multiaddr ``/ip4/HOST/tcp/PORT...``."""
    parts = address.split("/")
    proxy = Proxy(parts[2], int(parts[4]), delay_ms=DELAY_MS, bytes_per_s=BYTES_PER_S)
    stack.callback(proxy.close)
    return proxy


def _moved(address: str, port: int) -> str:
    parts = address.split("/")
    return "/".join([*parts[:4], str(port), *parts[5:]])


def _errors(numel: int, outcome: Outcome) -> None:
    """Return the codecs' error, |decoded - theta| over |theta - anchor|, by the functions of exchanges."""
    generator = torch.Generator().manual_seed(7)
    anchor_N = torch.randn(numel, generator=generator)
    delta_N = torch.empty(numel).normal_(0.0, DELTA_STD, generator=generator)
    snapshot = FragmentPayload(anchor_N + delta_N, anchor_N, Digest(bytes(32)), 1, 1)
    key = FragmentKey(RunIndex(1), StageIndex(0), 0, RoundIndex(0), 0)
    for name in ("INT8", "INT4"):
        figure = f"rel_error_{name.lower()}"
        outcome.figures[figure] = None
        if name not in Codec.__members__:
            outcome.detail[f"{figure}_reason"] = f"{name} is not traded by this version"
            continue
        if name == "INT4":
            more: dict[str, Any] = {"codec": Codec[name], "residual": torch.zeros(numel)}
            snapshot = FragmentPayload(snapshot.theta, anchor_N, snapshot.anchor_root, 1, 1, **more)
        packed = pack(key, snapshot, Codec[name])
        _, theta_N = open_payload(packed.offer, packed.wire, anchor_N)
        lost = (theta_N - snapshot.theta).norm() / (snapshot.theta - anchor_N).norm()
        outcome.figures[figure] = round(float(lost), 5)


def _ratios(outcome: Outcome) -> None:
    """Return how many times faster than hivemind an exchange is."""
    for ours, theirs in (
        ("pair_10m_s", "hivemind_10m_s"),
        ("pair_10m_s", "hivemind_fp16_10m_s"),
        ("pair_10m_wan_s", "hivemind_10m_wan_s"),
        ("pair_10m_wan_s", "hivemind_fp16_10m_wan_s"),
        ("four_10m_s", "hivemind_four_10m_s"),
        ("noloco_four_10m_s", "diloco_four_10m_s"),
        ("noloco_four_10m_s", "sync_four_10m_s"),
    ):
        pair = _numbers(outcome, (ours, theirs))
        outcome.detail[f"{theirs}/{ours}"] = round(pair[1] / pair[0], 2) if pair else None


def _numbers(outcome: Outcome, keys: Sequence[str]) -> list[float]:
    found = [outcome.figures.get(key, _median_of(outcome.detail.get(key))) for key in keys]
    return [float(str(each)) for each in found] if None not in found else []


def _median_of(spread: object) -> object:
    return spread.get("median") if isinstance(spread, dict) else None
