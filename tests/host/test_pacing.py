"""Work for strangers is charged to where they come from, and waits when that owes too much."""

import time
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from trio.testing import MockClock

from swarm.errors import Unreachable
from swarm.host import paces
from swarm.host import pacing as pacing_module
from swarm.host.paces import BURST_S, WAITING_MAX, Standing, Work
from swarm.host.pacing import Pacing
from swarm.host.peer_ids import id_of
from swarm.testing.ledger import numbered_key
from swarm.types import PeerId

HERE, THERE, SPIN_S = "192.0.2.1", "8.8.8.8", 0.02
KEY = numbered_key(5).peer


@dataclass
class Connection:
    """As much of a connection as pacing looks at."""

    remote: str
    own: str = HERE
    peer_id: ID = field(default_factory=lambda: id_of(KEY))

    def get_remote_address(self) -> tuple[str, int]:
        return self.remote, 4001

    @property
    def secured_conn(self) -> Any:  # noqa: ANN401  as libp2p has it
        socket = SimpleNamespace(getsockname=lambda: (self.own, 4001))
        stream = SimpleNamespace(socket=socket)
        return SimpleNamespace(swarm_raw=SimpleNamespace(stream=SimpleNamespace(stream=stream)))


def paced(standing: Standing, *, is_trusted: bool = True) -> Pacing:
    found = Pacing(lambda _peer, _now: is_trusted)
    found.judge_by(lambda _peer: standing)
    return found


@pytest.mark.rule("H40")
async def test_strangers_pay_by_network_seats_on_trial_apart_from_them_and_members_nothing(
    autojump_clock: MockClock,
) -> None:
    stranger = paced(Standing.STRANGER)
    assert stranger.payer(Connection(THERE)) == stranger.payer(Connection("8.8.8.200"))
    assert stranger.payer(Connection(THERE)) == stranger.payer_at(THERE, HERE) != ""
    novice = paced(Standing.NOVICE)
    assert novice.payer(Connection(THERE)) not in ("", stranger.payer(Connection(THERE)))
    assert paced(Standing.MEMBER).payer(Connection(THERE)) == ""


@pytest.mark.rule("H40")
async def test_attack_many_free_seats_of_one_address_pay_from_one_account(
    autojump_clock: MockClock,
) -> None:
    pacing = paced(Standing.NOVICE)
    seats = [Connection(THERE, peer_id=id_of(numbered_key(n).peer)) for n in range(8)]
    assert len({pacing.payer(seat) for seat in seats}) == 1
    pacing.spend(pacing.payer(seats[0]), 2 * BURST_S)
    assert all(map(pacing.owes, seats))


@pytest.mark.rule("H40")
async def test_a_member_that_is_silent_or_broke_a_rule_is_a_stranger_meanwhile(
    autojump_clock: MockClock,
) -> None:
    assert paced(Standing.MEMBER, is_trusted=False).payer(Connection(THERE))


async def test_nobody_pays_before_standing_is_known_nor_a_process_of_this_machine(
    autojump_clock: MockClock,
) -> None:
    assert Pacing(lambda _peer, _now: True).payer(Connection(THERE)) == ""
    assert paced(Standing.STRANGER).payer(Connection(HERE)) == ""


async def test_who_pays_is_asked_again_after_a_moment(
    autojump_clock: MockClock,
) -> None:
    known = dict[PeerId, Standing]()
    pacing = Pacing(lambda _peer, _now: True)
    pacing.judge_by(lambda peer: known.get(peer, Standing.STRANGER))
    connection = Connection(THERE)
    assert pacing.payer(connection)
    known[KEY] = Standing.MEMBER
    await trio.sleep(pacing_module.PAYER_S)
    assert pacing.payer(connection) == ""


@pytest.mark.rule("H40")
async def test_work_of_an_origin_that_owes_waits_and_that_of_another_does_not(
    autojump_clock: MockClock,
) -> None:
    pacing = paced(Standing.STRANGER)
    pacing.spend("crowd", 2 * BURST_S)
    began = trio.current_time()
    await pacing.turn("other", Work.QUESTION)
    assert trio.current_time() == began
    assert pacing.owes(Connection(THERE)) is False
    await pacing.turn("crowd", Work.QUESTION)
    assert trio.current_time() - began >= 1.0


@pytest.mark.rule("H40")
async def test_attack_questions_without_number_are_refused_once_enough_of_them_wait(
    autojump_clock: MockClock,
) -> None:
    pacing, refused = paced(Standing.STRANGER), list[str]()
    pacing.spend("crowd", 2 * BURST_S)

    async def ask() -> None:
        try:
            await pacing.turn("crowd", Work.QUESTION)
        except Unreachable as error:
            refused.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(3 * WAITING_MAX):
            nursery.start_soon(ask)
    assert len(refused) == 2 * WAITING_MAX
    assert "try again later" in refused[0]


@pytest.mark.rule("H40", "S4")
async def test_attack_dear_questions_of_a_stranger_are_answered_at_its_pace_over_sockets(
    net: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a member asks comes at once meanwhile."""
    monkeypatch.setattr(paces, "BURST_S", SPIN_S)
    monkeypatch.setattr(pacing_module, "host_under", lambda _secured: "")

    async def dear(_peer: PeerId, request: bytes) -> bytes:
        ends_at = time.thread_time() + SPIN_S
        while time.thread_time() < ends_at:
            pass
        return request

    async with net.hosts(3) as (victim, stranger, member):
        victim.serve("/dear/1", dear, request_limit=8)
        victim.pacing.judge_by(
            lambda peer: Standing.MEMBER if peer == member.peer else Standing.STRANGER
        )
        for other in (stranger, member):
            await net.meet(other, victim)
        took_s = dict[PeerId, float]()
        for other, count in ((stranger, 5), (member, 5)):
            began = trio.current_time()
            for _ in range(count):
                await other.call(victim.peer, "/dear/1", b"x", timeout_s=20)
            took_s[other.peer] = trio.current_time() - began
        assert took_s[stranger.peer] >= 3 * SPIN_S * paces.ORIGIN_SHARE
        assert took_s[member.peer] < took_s[stranger.peer] / 2
        assert victim.owes(stranger.peer)
        assert not victim.owes(member.peer)
