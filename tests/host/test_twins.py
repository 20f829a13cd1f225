"""Two processes with one key are told of each other; a restart, a replay and a liar between are no twin."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from types import ModuleType

import pytest
import trio

from swarm.errors import BadEncoding, OutOfTurn
from swarm.host.twins import (
    NONCE_S,
    NONCES_MAX,
    Life,
    Twin,
    TwinAsk,
    TwinWatch,
    is_proved,
    older_of,
    parse_ask,
    parse_life,
)
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey

KEY, CHAIN = SecretKey.from_seed(bytes(32)), b"c" * 16


@dataclass
class Side:
    """One process, and for how long it has run."""

    watch: TwinWatch
    uptime_s: float

    def ask(self, ask: TwinAsk) -> tuple[bytes, Twin | None]:
        return self.watch.answer(encode(ask), self.uptime_s)

    def nonce(self) -> bytes:
        return self.ask(TwinAsk((), ()))[0]

    def life(self, nonces: tuple[bytes, ...]) -> Life:
        return parse_life(self.ask(TwinAsk(nonces, ()))[0])


def a_side(session: bytes, uptime_s: float, key: SecretKey = KEY, chain: bytes = CHAIN) -> Side:
    return Side(TwinWatch(key, chain, session * 8, dice(session)), uptime_s)


def dice(session: bytes) -> Callable[[int], bytes]:
    numbers = count()
    return lambda size: (session + next(numbers).to_bytes(4, "big")).ljust(size, b"\0")


def carried(first: Side, second: Side) -> TwinAsk:
    """What a neighbour gathers from both."""
    nonces = first.nonce(), second.nonce()
    return TwinAsk(nonces, (first.life(nonces), second.life(nonces)))


@pytest.mark.rule("H22")
def test_both_are_told_and_agree_on_who_is_older() -> None:
    old, young = a_side(b"a", 7_200.0), a_side(b"b", 3.0)
    told = carried(old, young)
    assert is_proved(KEY.peer, CHAIN, told)
    assert older_of(told).session == b"a" * 8
    assert old.ask(told) == (b"", Twin(b"b" * 8, 3, is_older=False))
    assert young.ask(told) == (b"", Twin(b"a" * 8, 7_200, is_older=True))


@pytest.mark.rule("H22")
def test_of_two_that_began_at_once_one_is_older() -> None:
    one, other = a_side(b"a", 5.0), a_side(b"b", 5.0)
    told = carried(one, other)
    verdicts = [side.ask(told)[1] for side in (one, other)]
    assert [twin is not None and twin.is_older for twin in verdicts] == [True, False]


@pytest.mark.rule("H22")
def test_one_process_with_two_connections_is_no_twin() -> None:
    side = a_side(b"a", 5.0)
    told = carried(side, side)
    assert not is_proved(KEY.peer, CHAIN, told)
    assert side.ask(told) == (b"", None)


@pytest.mark.rule("H22")
def test_attack_a_neighbour_that_shows_a_signature_of_an_earlier_process_stops_nobody() -> None:
    """It has been told one before the restart, and the nonces are not those of today."""
    before = carried(a_side(b"a", 9_000.0), a_side(b"x", 1.0))
    now = a_side(b"b", 10.0)
    with pytest.raises(OutOfTurn):
        now.ask(before)
    mine = now.nonce()
    forged = TwinAsk(
        (mine, before.nonces[1]), (now.life((mine, before.nonces[1])), before.lives[0])
    )
    assert now.ask(forged) == (b"", None)


@pytest.mark.rule("H22")
@pytest.mark.parametrize("changed", ["key", "chain", "uptime", "session", "signature"])
def test_attack_a_neighbour_that_makes_up_a_twin_is_not_believed(changed: str) -> None:
    me = a_side(b"a", 5.0)
    other = {
        "key": a_side(b"b", 9.0, key=SecretKey.from_seed(bytes([1]) * 32)),
        "chain": a_side(b"b", 9.0, chain=b"d" * 16),
    }.get(changed, a_side(b"b", 1.0))
    told = carried(me, other)
    sign = told.lives[1]
    sign = {
        "uptime": replace(sign, uptime_ms=1 << 40),
        "session": replace(sign, session=b"c" * 8),
        "signature": replace(sign, signature=bytes(64)),
    }.get(changed, sign)
    assert me.ask(TwinAsk(told.nonces, (told.lives[0], sign))) == (b"", None)


@pytest.mark.rule("H22")
def test_a_nonce_is_good_for_some_seconds_and_few_are_kept() -> None:
    side, other = a_side(b"a", 5.0), a_side(b"b", 1.0)
    nonces = side.nonce(), other.nonce()
    side.uptime_s += NONCE_S + 1
    with pytest.raises(OutOfTurn):
        side.life(nonces)
    first = side.nonce()
    for _ in range(NONCES_MAX):
        last = side.nonce()
    with pytest.raises(OutOfTurn):
        side.life((first, nonces[1]))
    assert side.life((last, nonces[1]))


@pytest.mark.rule("H22")
def test_junk_is_refused_by_name() -> None:
    told = carried(a_side(b"a", 5.0), a_side(b"b", 1.0))
    nonce, life = told.nonces[0], told.lives[0]
    for ask in (
        TwinAsk((nonce,), ()),
        TwinAsk((), (life, life)),
        TwinAsk((nonce, nonce), (life,)),
        TwinAsk((nonce, b""), ()),
        TwinAsk((nonce, nonce), (life, replace(life, uptime_ms=-1))),
        TwinAsk((nonce, nonce), (life, replace(life, session=b""))),
    ):
        with pytest.raises(BadEncoding):
            parse_ask(encode(ask))
    for junk in (b"", b"\xff" * 20, encode(told) + bytes(600)):
        with pytest.raises(BadEncoding):
            parse_ask(junk)
    with pytest.raises(BadEncoding):
        parse_life(encode(replace(life, signature=b"")))


@pytest.mark.rule("H22")
async def test_a_neighbour_tells_both_and_keeps_the_older(net: ModuleType) -> None:
    async with net.a_host(1) as carol, net.a_host(2) as old:
        await net.meet(old, carol)
        async with net.a_host(2) as young:
            await young.connect(carol.peer, carol.addresses())
            with trio.fail_after(10):
                assert not (await old.twins.receive()).is_older
                assert (await young.twins.receive()).is_older
            await net.until(lambda: not young.is_connected(carol.peer))
            assert await carol.call(old.peer, net.UPPER, b"a", timeout_s=5) == b"A"
            assert await old.call(carol.peer, net.UPPER, b"b", timeout_s=5) == b"B"


@pytest.mark.rule("H13", "H22")
async def test_a_process_that_has_ended_is_no_twin(net: ModuleType) -> None:
    """It froze, as one whose machine lost its power: its connection is open, and answers nothing."""
    async with net.a_host(1) as carol, net.a_host(2) as frozen:
        await net.meet(frozen, carol)
        (before,) = carol._links.of(frozen.peer)
        net.freeze(frozen)
        async with net.a_host(2) as again:
            await net.meet(again, carol)
            assert carol._links.of(again.peer) != [before]
            assert await carol.call(again.peer, net.UPPER, b"a", timeout_s=5) == b"A"
            await net.until(before.ended.is_set, 8.0)
            with pytest.raises(trio.WouldBlock):
                again.twins.receive_nowait()
