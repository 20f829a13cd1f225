"""A lookup finds the newest record and the closest peers among the dead and the liars, without a network."""

import heapq
import random
from dataclasses import dataclass, field
from functools import partial

import msgspec
import pytest

from swarm.dht.lookup import (
    ASKED_MAX,
    CLOSEST,
    COPIES,
    DISBELIEF,
    NAMED_MAX,
    OUT_MAX,
    PATHS,
    SLOW_S,
    Lookup,
    closest,
    place_of,
)
from swarm.dht.records import check_record, record_key, sign_record
from swarm.errors import BadSignature, PeerFault
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey
from swarm.primitives.randomness import stream
from swarm.types import PeerId

NOW_S = 1_800_000_000
OWNER, MALLORY = SecretKey.from_seed(b"o" * 32), SecretKey.from_seed(b"m" * 32)
TOPIC = "announce"
KEY = record_key(TOPIC, OWNER.peer).encode("ascii")
PLACE = place_of(KEY)
TIMEOUT_S = 3.0
IN_TIME_S = 15.0


def a_record(seq: int, signer: SecretKey = OWNER) -> bytes:
    record = sign_record(signer, TOPIC, b"%d" % seq, seq=seq, expires_at=NOW_S + 60)
    return encode(msgspec.structs.replace(record, peer=OWNER.peer))


OLD, NEW, FORGED = a_record(1), a_record(2), a_record(9, MALLORY)
CHECK = partial(check_record, topic=TOPIC, peer=OWNER.peer, now_s=NOW_S)


def a_peer(number: int) -> PeerId:
    return PeerId(number.to_bytes(32, "big"))


def a_lookup(seeds: list[PeerId], seed: int = 0, *, wants_record: bool = True) -> Lookup:
    dice = stream(b"test", "dht.lookup", seed)
    return Lookup(PLACE, seeds, a_peer(0), dice, CHECK if wants_record else None)


@dataclass
class World:
    """Peers that know their neighbours and a few others; some are dead, some lie."""

    count: int
    seed: int
    dead_share: float = 0.0
    liar_share: float = 0.0
    lie: str = "forge"
    dead: set[PeerId] = field(default_factory=set)
    liars: set[PeerId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.peers = [a_peer(self.dice.getrandbits(255)) for _ in range(self.count)]
        shuffled = self.dice.sample(self.peers, self.count)
        num_dead = round(self.dead_share * self.count)
        num_liars = round(self.liar_share * self.count)
        self.dead, self.liars = set(shuffled[:num_dead]), set(shuffled[-num_liars or self.count :])
        self.known = {peer: self._neighbours(peer) for peer in self.peers}
        self.holders = set(closest(PLACE, self.peers, CLOSEST))
        self.invented = 0

    def _neighbours(self, peer: PeerId) -> list[PeerId]:
        others = [other for other in self.peers if other != peer]
        return closest(place_of(peer), others, CLOSEST) + self.dice.sample(others, 8)

    @property
    def honest(self) -> list[PeerId]:
        return [peer for peer in self.peers if peer not in self.dead | self.liars]

    def answer(self, peer: PeerId) -> tuple[list[PeerId], bytes] | None:
        """Closer peers and a record; None from who is dead or does not exist."""
        if peer in self.dead or peer not in self.known:
            return None
        if peer in self.liars:
            record = {"forge": FORGED, "stale": OLD, "withhold": b""}[self.lie]
            return self._invent(), record
        return closest(PLACE, self.known[peer], CLOSEST), NEW if peer in self.holders else b""

    def _invent(self) -> list[PeerId]:
        """Peers that do not exist, closer to the place than anybody."""
        found = list[PeerId]()
        bound = place_of(closest(PLACE, self.peers, 1)[0]) ^ PLACE
        while len(found) < NAMED_MAX:
            self.invented += 1
            peer = a_peer((1 << 255) + self.invented)
            if place_of(peer) ^ PLACE < max(bound, 1 << 252):
                found.append(peer)
        return found


def run(world: World, lookup: Lookup) -> float:
    """Carry a lookup out in virtual time, and return the seconds that it took."""
    now, events = 0.0, list[tuple[float, int, PeerId]]()
    for turn in range(10_000):
        for peer in lookup.next(now):
            delay_s = TIMEOUT_S if world.answer(peer) is None else 0.05
            heapq.heappush(events, (now + delay_s, turn, peer))
        if lookup.is_over:
            return now
        deadline = lookup.deadline()
        if deadline is not None and (not events or deadline < events[0][0]):
            now = deadline
            continue
        now, _, peer = heapq.heappop(events)
        given = world.answer(peer)
        if given is None:
            lookup.failed(peer, now)
            continue
        try:
            lookup.answered(peer, given[0], given[1], now)
        except PeerFault:
            assert peer in world.liars
    raise AssertionError("a lookup ends")


def newest(lookup: Lookup) -> bytes:
    return b"" if lookup.newest is None else lookup.newest[1]


@pytest.mark.rule("D15", "D16")
@pytest.mark.parametrize("lie", ["forge", "stale", "withhold"])
@pytest.mark.parametrize("count", [20, 100])
def test_the_newest_record_is_found_with_three_in_ten_dead_and_two_lying(
    lie: str, count: int
) -> None:
    took, wrong, reads = list[float](), 0, 0
    for seed in range(8):
        world = World(count, seed, dead_share=0.3, liar_share=0.2, lie=lie)
        for number, reader in enumerate(world.honest[:10]):
            lookup = a_lookup(world.known[reader], number)
            took.append(run(world, lookup))
            reads += 1
            wrong += newest(lookup) != NEW or took[-1] > IN_TIME_S
    assert reads >= 80
    assert wrong <= 0.01 * reads
    assert sorted(took)[len(took) // 2] < 2.0


@pytest.mark.rule("D15")
def test_with_three_in_ten_dead_every_read_succeeds_without_waiting_for_them() -> None:
    for seed in range(10):
        world = World(100, seed, dead_share=0.3)
        for number, reader in enumerate(world.honest[:10]):
            lookup = a_lookup(world.known[reader], number)
            assert run(world, lookup) < TIMEOUT_S
            assert newest(lookup) == NEW


@pytest.mark.rule("D15")
def test_the_closest_peers_that_live_are_found_by_publishers() -> None:
    for seed in range(5):
        world = World(200, seed, dead_share=0.3)
        lookup = a_lookup(world.known[world.honest[0]], seed, wants_record=False)
        assert run(world, lookup) < IN_TIME_S
        live = closest(PLACE, (p for p in world.honest if p != world.honest[0]), CLOSEST)
        assert len(set(lookup.found) & set(live)) >= 0.9 * CLOSEST


@pytest.mark.rule("D15")
def test_a_record_that_nobody_has_is_not_found_and_that_ends() -> None:
    world = World(100, 3, dead_share=0.3, liar_share=0.2)
    world.holders.clear()
    lookup = a_lookup(world.known[world.honest[0]])
    assert run(world, lookup) < IN_TIME_S
    assert lookup.newest is None


@pytest.mark.rule("D15")
def test_no_peer_is_asked_twice_and_no_more_than_the_limit() -> None:
    world = World(300, 4, liar_share=0.5)
    lookup = a_lookup(world.known[world.honest[0]], wants_record=False)
    asked, now = list[PeerId](), 0.0
    while not lookup.is_over or not asked:
        now += SLOW_S
        fresh = lookup.next(now)
        assert len(fresh) <= PATHS * OUT_MAX
        asked += fresh
        for peer in fresh:
            given = world.answer(peer)
            if given is None:
                lookup.failed(peer, now)
            else:
                lookup.answered(peer, given[0], b"", now)
    assert len(asked) == len(set(asked)) <= ASKED_MAX


@pytest.mark.rule("D16")
def test_a_forged_record_is_refused_and_whom_its_sender_names_is_not_asked() -> None:
    liar, *rest = (a_peer(number) for number in range(1, 5))
    lookup = a_lookup([liar])
    assert lookup.next(0.0) == [liar]
    with pytest.raises(BadSignature):
        lookup.answered(liar, rest, FORGED, 0.1)
    assert not lookup.next(0.2)
    assert lookup.is_over
    assert lookup.newest is None


@pytest.mark.rule("D16")
def test_one_path_does_not_end_a_lookup_however_many_copies_it_brings() -> None:
    seeds = [a_peer(number) for number in range(1, 2 * PATHS + 1)]
    lookup = a_lookup(seeds)
    first = lookup.next(0.0)
    assert sorted(first) == sorted(seeds)
    path = [peer for peer in seeds if lookup._asked[peer] == 0]
    for peer in path:
        lookup.answered(peer, [a_peer(100 + number) for number in range(4)], OLD, 0.1)
    for peer in lookup.next(0.1):
        lookup.answered(peer, [], OLD, 0.2)
    assert len(lookup._copies) >= COPIES
    assert not lookup.is_over
    lookup.answered(next(peer for peer in seeds if peer not in path), [], NEW, 0.3)
    assert newest(lookup) == NEW
    assert not lookup.is_over, "one copy of the newest is not enough while others are asked"


@pytest.mark.rule("D15")
def test_who_names_peers_that_do_not_answer_is_followed_no_further() -> None:
    liar = a_peer(1)
    named = [a_peer(number) for number in range(10, 10 + NAMED_MAX)]
    lookup = a_lookup([liar], wants_record=False)
    lookup.next(0.0)
    lookup.answered(liar, named, b"", 0.1)
    asked, now = 0, 0.1
    while fresh := lookup.next(now):
        asked += len(fresh)
        now += TIMEOUT_S
        for peer in fresh:
            lookup.failed(peer, now)
    assert asked <= DISBELIEF + 1
    assert lookup.is_over


@pytest.mark.rule("D15")
def test_a_slow_peer_loses_its_turn_and_its_answer_still_counts() -> None:
    seeds = [a_peer(number) for number in range(1, 20)]
    lookup = a_lookup(seeds)
    slow = lookup.next(0.0)
    assert lookup.deadline() == SLOW_S
    assert lookup.next(SLOW_S), "others are asked instead"
    for peer in slow[:COPIES]:
        lookup.answered(peer, [], NEW, 2.0)
    assert newest(lookup) == NEW
