"""Measure the network under a run: the table beside hivemind's DHT, blobs beside plain TCP, an idle node.

Twenty peers of ours in as many processes, each connected to a few others, over real sockets of this machine; as
many peers of hivemind's DHT. They take turns: a record is put and read by ours, then by hivemind's. Then blobs
are fetched from one and from four peers, and copied by plain TCP, in turns. News spreads over 64 simulated
peers that lose one frame in a hundred, and over the twenty real ones. Then three in ten of our peers die, half
of them killed and half frozen, and the rest reads every record; then two in ten lie besides. At last newcomers
join a run through a relay (``net_relay``), and floods and hostile links are played against nodes of their own.
"""

import json
import random
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks import floods, net_news, net_relay, net_tcp
from benchmarks.common import ROOT, Outcome, median, say, spread
from benchmarks.wire_children import START_S, Answer, Child, ChildError, scratch

PEERS, PEERS_QUICK = 20, 6
LINKS = 3
"""Earlier peers that each one dials; with those that dial it six are connected, of nineteen."""
GETS, GETS_QUICK = 60, 6
IDLE_S, IDLE_QUICK_S = 60.0, 5.0
BLOB_BYTES, BLOB_QUICK_BYTES = 128 << 20, 8 << 20
COPIES, COPIES_QUICK = 5, 2
SOURCES = 4
DEAD_SHARE, LIAR_SHARE = 0.3, 0.2
HOSTILE, HOSTILE_QUICK = 256, 32
HOSTILE_S, HOSTILE_QUICK_S = 20, 5
IN_TIME_S = 15.0
SLOW_START_S = 300.0
SEED = 1

FIGURES = (
    "dht_put_p50_s",
    "dht_get_p50_s",
    "hivemind_dht_get_p50_s",
    "dht_success_30dead",
    "pubsub_delivery",
    "pubsub_p95_s",
    "blob_over_tcp_1",
    "blob_over_tcp_4",
    "relay_join_s",
    "idle_cpu",
    "idle_mb",
    "flood_join_ratio",
    "flood_cpu",
    "hostile_links_mb",
)


def measure(quick: bool) -> Outcome:
    """Measure the table, a node without work, blobs, and the table with dead peers."""
    size = _Size(quick)
    outcome = Outcome(size.parameters())
    outcome.figures.update(dict.fromkeys(FIGURES))
    outcome.detail["reasons"] = dict[str, str]()
    dice = random.Random(SEED)
    with ExitStack() as stack:
        folder = scratch()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        swarm = _Swarm(stack, folder, size.peers, dice)
        _table(outcome, stack, swarm, size, dice)
        _try(outcome, ["pubsub_delivery", "pubsub_p95_s"], partial(_news, outcome, swarm, quick))
        _try(outcome, ["idle_cpu", "idle_mb"], partial(_idle, outcome, swarm, size.idle_s))
        copies = partial(_blobs, outcome, stack, swarm, size, folder)
        _try(outcome, ["blob_over_tcp_1", "blob_over_tcp_4"], copies)
        _try(outcome, ["dht_success_30dead"], partial(_dead, outcome, swarm, dice))
    # Only now: the peers above take a core.
    _try(outcome, ["relay_join_s"], partial(_relayed, outcome, quick))
    _try(outcome, ["flood_join_ratio", "flood_cpu"], partial(_floods, outcome))
    _try(outcome, ["hostile_links_mb"], partial(_hostile, outcome, quick))
    return outcome


def _floods(outcome: Outcome) -> None:
    """Flood a node of its own in each way, once: ``scripts/soak net`` does so three times."""
    found = floods.measure(quick=True)
    outcome.detail["floods"] = {**found.figures, **found.detail}
    for name in ("flood_join_ratio", "flood_cpu"):
        if found.figures[name] is None:
            raise ChildError(str(found.detail.get("reason")))
        outcome.figures[name] = found.figures[name]


def _hostile(outcome: Outcome, quick: bool) -> None:
    """Let hostile links do all they can at once, each its part, to a node of its own."""
    links, seconds = (HOSTILE_QUICK, HOSTILE_QUICK_S) if quick else (HOSTILE, HOSTILE_S)
    say(f"{links} hostile links for {seconds} s")
    command = [sys.executable, "-m", "tests.host.hostile", "mixed"]
    options = ["--links", str(links), "--seconds", str(seconds)]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ChildError(done.stderr[-600:])
    outcome.detail["hostile_links"] = found = json.loads(done.stdout)["mixed"]
    outcome.figures["hostile_links_mb"] = found["highest_mb"]


@dataclass(frozen=True, slots=True)
class _Size:
    """Amount of work."""

    is_quick: bool

    @property
    def peers(self) -> int:
        return PEERS_QUICK if self.is_quick else PEERS

    @property
    def gets(self) -> int:
        return GETS_QUICK if self.is_quick else GETS

    @property
    def idle_s(self) -> float:
        return IDLE_QUICK_S if self.is_quick else IDLE_S

    @property
    def blob_bytes(self) -> int:
        return BLOB_QUICK_BYTES if self.is_quick else BLOB_BYTES

    @property
    def copies(self) -> int:
        return COPIES_QUICK if self.is_quick else COPIES

    def parameters(self) -> dict[str, object]:
        return {
            "peers": self.peers,
            "links_dialled": LINKS,
            "gets": self.gets,
            "idle_s": self.idle_s,
            "blob_mib": self.blob_bytes >> 20,
            "copies": self.copies,
            "dead_share": DEAD_SHARE,
            "liar_share": LIAR_SHARE,
            "in_time_s": IN_TIME_S,
            "seed": SEED,
        }


@dataclass(slots=True)
class _Peer:
    """One peer of ours."""

    child: Child
    name: str
    address: str
    newest: str = ""
    """What it published last."""


class _Swarm:
    """Peers of ours, connected to a few of each other."""

    def __init__(self, stack: ExitStack, folder: Path, count: int, dice: random.Random) -> None:
        say(f"starting {count} peers of ours")
        children = [_start(stack, folder, seat) for seat in range(count)]
        self.peers = list[_Peer]()
        for child in children:
            answer = child.receive(SLOW_START_S)
            addresses = answer["addresses"]
            assert isinstance(addresses, list), "a peer that listens"
            self.peers.append(_Peer(child, str(answer["peer"]), str(addresses[0])))
        for number, peer in enumerate(self.peers):
            for other in dice.sample(self.peers[:number], min(LINKS, number)):
                order = {"do": "connect", "peer": other.name, "address": other.address}
                _done(peer.child.request(order))

    def publish(self, peer: _Peer, text: str) -> float:
        """Let a peer publish, and return the seconds."""
        order = {"do": "publish", "topic": "bench", "payload": text}
        seconds = _done(peer.child.request(order))
        peer.newest = text
        return seconds


def _start(stack: ExitStack, folder: Path, seat: int) -> Child:
    arguments = ["--seat", str(seat)]
    if seat <= SOURCES:
        arguments += ["--home", str(folder / f"peer-{seat}")]
    child = Child("benchmarks.net_swarm", *arguments)
    stack.callback(child.close)
    return child


def _read(owner: _Peer) -> dict[str, object]:
    return {"do": "read", "topic": "bench", "peer": owner.name}


def _done(answer: Answer) -> float:
    """Seconds of an order that was carried out; raises ``ChildError`` if it was not."""
    if answer.get("error"):
        raise ChildError(str(answer["error"]))
    return float(str(answer["seconds"]))


def _try(outcome: Outcome, names: Sequence[str], measuring: Callable[[], None]) -> None:
    """Measure, or leave these figures null and say why."""
    try:
        measuring()
    except (ChildError, OSError) as error:
        _give_up(outcome, names, error)


def _give_up(outcome: Outcome, names: Sequence[str], error: Exception) -> None:
    """Say why these figures are null."""
    reasons = outcome.detail["reasons"]
    assert isinstance(reasons, dict), "reasons by figure"
    for name in names:
        outcome.figures[name] = None
        reasons[name] = str(error)
    say(f"{', '.join(names)}: {error}")


# ---- the table


@dataclass(slots=True)
class _Times:
    """Seconds of what was put and read, and what was not found."""

    put: list[float] = field(default_factory=list[float])
    get: list[float] = field(default_factory=list[float])
    latest: list[float] = field(default_factory=list[float])
    missed: int = 0


def _table(
    outcome: Outcome, stack: ExitStack, swarm: _Swarm, size: _Size, dice: random.Random
) -> None:
    """Put and read records with ours and with hivemind's, in turns."""
    theirs = None
    try:
        theirs = _hivemind(stack, size.peers)
    except ChildError as error:
        _give_up(outcome, ["hivemind_dht_get_p50_s"], error)
    ours, others = _Times(), _Times()
    for peer in swarm.peers:
        ours.put.append(swarm.publish(peer, secrets.token_hex(32)))
    say("putting and reading in turns")
    for number in range(size.gets):
        owner, reader = dice.sample(swarm.peers, 2)
        ours.put.append(swarm.publish(owner, secrets.token_hex(32)))
        answer = reader.child.request(_read(owner))
        ours.get.append(_done(answer))
        ours.missed += answer["payload"] != owner.newest
        if theirs is not None:
            writer, at = dice.sample(range(size.peers), 2)
            _turn(theirs, f"key-{number}", writer, at, others)
    outcome.figures["dht_put_p50_s"] = median(ours.put)
    outcome.figures["dht_get_p50_s"] = median(ours.get)
    outcome.figures["hivemind_dht_get_p50_s"] = median(others.get)
    outcome.detail["dht"] = _spreads(ours)
    outcome.detail["hivemind_dht"] = _spreads(others)
    outcome.detail["providers"] = _listing(swarm, dice)


def _hivemind(stack: ExitStack, count: int) -> Child:
    if find_spec("hivemind") is None:
        raise ChildError("hivemind is not installed")
    say(f"starting {count} peers of hivemind's DHT")
    child = Child("benchmarks.net_hivemind", "--peers", str(count))
    stack.callback(child.close)
    child.receive(SLOW_START_S)
    return child


def _turn(child: Child, key: str, writer: int, reader: int, times: _Times) -> None:
    """Store one value under two keys with hivemind, read one as it comes and the other as the newest."""
    for name, latest, seconds in ((key, False, times.get), (f"{key}n", True, times.latest)):
        value = secrets.token_hex(32)
        put = child.request({"do": "store", "at": writer, "key": name, "value": value})
        times.put.append(float(str(put["seconds"])))
        order = {"do": "get", "at": reader, "key": name, "value": value, "latest": latest}
        got = child.request(order)
        seconds.append(float(str(got["seconds"])))
        times.missed += not got["done"]


def _spreads(times: _Times) -> dict[str, object]:
    spreads: dict[str, object] = {
        "put": spread(times.put),
        "get": spread(times.get),
        "missed": times.missed,
    }
    if times.latest:
        spreads["get_latest"] = spread(times.latest)
    return spreads


def _listing(swarm: _Swarm, dice: random.Random) -> dict[str, object]:
    """Every peer but the reader says that it takes part in one run; return how many are listed."""
    reader, *providers = dice.sample(swarm.peers, len(swarm.peers))
    seconds = [_done(peer.child.request({"do": "provide", "key": "bench"})) for peer in providers]
    answer = reader.child.request({"do": "list", "key": "bench"})
    found = answer["peers"]
    assert isinstance(found, list), "a list of keys in hex"
    return {
        "provided": len(providers),
        "listed": len({peer.name for peer in providers} & set(found)),
        "provide": spread(seconds),
        "list_s": _done(answer),
    }


def _dead(outcome: Outcome, swarm: _Swarm, dice: random.Random) -> None:
    """Kill and freeze three in ten; all others read the records of all at once."""
    for peer in swarm.peers:
        swarm.publish(peer, secrets.token_hex(32))
    count = round(DEAD_SHARE * len(swarm.peers))
    dead = dice.sample(range(len(swarm.peers)), count)
    for order, number in enumerate(dead):
        how = signal.SIGSTOP if order % 2 else signal.SIGKILL
        swarm.peers[number].child.signal(how)
    say(f"{count} peers are dead or frozen")
    live = [peer for number, peer in enumerate(swarm.peers) if number not in dead]
    frozen = [swarm.peers[number].address for number in dead[1::2]]
    found = _reads(live, swarm.peers)
    outcome.figures["dht_success_30dead"] = found["share"]
    outcome.detail["dht_30dead"] = {"dead": count, "frozen": len(frozen), **found}
    liars = live[: round(LIAR_SHARE * len(swarm.peers))]
    for liar in liars:
        _done(liar.child.request({"do": "lie", "addresses": frozen}))
    say(f"{len(liars)} more lie")
    honest = [peer for peer in live if peer not in liars]
    outcome.detail["dht_30dead_20lying"] = {
        "dead": count,
        "lying": len(liars),
        **_reads(honest, swarm.peers),
    }
    for number in dead:
        swarm.peers[number].child.signal(signal.SIGKILL)


def _reads(readers: Sequence[_Peer], owners: Sequence[_Peer]) -> dict[str, object]:
    """Let all readers at once read the record of one owner each, until each has read all."""
    seconds, reasons = list[float](), list[str]()
    for shift in range(len(owners)):
        turn = [
            (reader, owners[(number + shift) % len(owners)])
            for number, reader in enumerate(readers)
        ]
        pairs = [(reader, owner) for reader, owner in turn if reader is not owner]
        for reader, owner in pairs:
            reader.child.send(_read(owner))
        for reader, owner in pairs:
            answer = reader.child.receive()
            seconds.append(float(str(answer["seconds"])))
            if answer.get("payload") != owner.newest or seconds[-1] > IN_TIME_S:
                reasons.append(str(answer.get("error") or f"{owner.name[:8]}: not the newest"))
    return {
        "share": round(1 - len(reasons) / len(seconds), 4),
        "get": spread(seconds),
        "readers_at_once": len(readers),
        "failures": reasons[:20],
    }


def _relayed(outcome: Outcome, quick: bool) -> None:
    """Let newcomers join a run with a ticket that leads through a relay alone."""
    say("joining through a relay")
    folder = scratch()
    try:
        joins = net_relay.through_a_relay(quick, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.figures["relay_join_s"] = joins.figure()
    outcome.detail["relay_join"] = joins.detail()


# ---- news, a node without work, and blobs


def _news(outcome: Outcome, swarm: _Swarm, quick: bool) -> None:
    """Spread news over simulated peers, then over real ones."""
    say(f"news over {net_news.PEERS} simulated peers, and over {len(swarm.peers)} real ones")
    figures, outcome.detail["news"] = net_news.simulated(quick)
    outcome.figures.update(figures)
    children = [peer.child for peer in swarm.peers]
    count = net_news.NOTICES_QUICK if quick else net_news.NOTICES
    outcome.detail["news_over_sockets"] = net_news.over_sockets(
        children, random.Random(SEED), count
    )


def _idle(outcome: Outcome, swarm: _Swarm, for_s: float) -> None:
    """Let all peers announce themselves and keep their maps, and nothing else."""
    say(f"{len(swarm.peers)} peers without work for {for_s:g} s")
    for peer in swarm.peers:
        peer.child.send({"do": "idle", "for_s": for_s})
    answers = [peer.child.receive() for peer in swarm.peers]
    for answer in answers:
        _done(answer)
    shares = [float(str(answer["cpu_share"])) for answer in answers]
    counted = [answer for answer in answers if answer["pss_mb"] is not None]
    whole, bare = (
        [float(str(answer["pss_mb"])) for answer in counted if answer["has_blobs"] is wanted]
        for wanted in (True, False)
    )
    outcome.figures["idle_cpu"] = median(shares)
    outcome.figures["idle_mb"] = median(whole)
    outcome.detail["idle"] = {
        "cpu_share": spread(shares),
        "pss_mb": spread(whole),
        "pss_mb_without_blobs": spread(bare),
        "connected": [answer["connected"] for answer in answers],
        "on_map": [answer["on_map"] for answer in answers],
        "what": "host, table and peer map in one process, in five with blobs; no ledger, no training",
    }


def _blobs(outcome: Outcome, stack: ExitStack, swarm: _Swarm, size: _Size, folder: Path) -> None:
    """Fetch a blob from one peer and from four, and copy its file by plain TCP, in turns."""
    source = folder / "source"
    source.write_bytes(random.Random(SEED).randbytes(size.blob_bytes))
    reader, *holders = swarm.peers[: SOURCES + 1]
    roots = {
        str(peer.child.request({"do": "add", "path": str(source)})["root"]) for peer in holders
    }
    (root,) = roots
    for holder in holders:
        order = {"do": "connect", "peer": holder.name, "address": holder.address}
        _done(reader.child.request(order))
    tcp = Child("benchmarks.net_tcp", "--file", str(source))
    stack.callback(tcp.signal, signal.SIGTERM)
    stack.callback(tcp.close)
    port = int(str(tcp.receive(START_S)["port"]))
    say(f"copying {size.blob_bytes >> 20} MiB in turns")
    rates: dict[str, list[float]] = {"tcp": [], "blob_1": [], "blob_4": []}
    for _ in range(size.copies + 1):
        rates["tcp"].append(size.blob_bytes / net_tcp.copy(port, folder / "copy"))
        for name, count in (("blob_1", 1), ("blob_4", SOURCES)):
            names = [holder.name for holder in holders[:count]]
            answer = reader.child.request({"do": "fetch", "root": root, "peers": names})
            rates[name].append(size.blob_bytes / _done(answer))
    # The first turn warms up: connections widen their windows, the disk has the file in memory.
    counted = {name: [rate / 1e6 for rate in each[1:]] for name, each in rates.items()}
    plain = median(counted["tcp"])
    for count in (1, SOURCES):
        rate = median(counted[f"blob_{count}"])
        assert rate, "measured more than once"
        assert plain, "measured more than once"
        outcome.figures[f"blob_over_tcp_{count}"] = round(rate / plain, 4)
    outcome.detail["megabytes_per_s"] = {name: spread(each) for name, each in counted.items()}
