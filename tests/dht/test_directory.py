"""The map believes the newest announcement, shows its own measurements beside it, and gives reasons."""

import msgspec
import pytest

from swarm.dht import directory
from swarm.dht.directory import (
    LATE_NS,
    Announcement,
    PeerTable,
    PeerView,
    fold,
    heard,
    measured,
    parse_announcement,
    view,
)
from swarm.errors import BadEncoding
from swarm.primitives.codec import encode
from swarm.types import PeerId

ANNOUNCEMENT = Announcement(
    run16=b"r" * 16,
    roles=1,
    seats=((0, 1),),
    tokens_per_s=100,
    loss_milli=2500,
    round=3,
    steps=30,
    height=40,
    reachability="direct",
    version="1.0",
    addresses=("/ip4/192.0.2.1/tcp/1",),
    state="training",
    num_traded=2,
    last_partner=b"",
)
A, B, C = (PeerId(bytes([n]) * 32) for n in (1, 2, 3))


def seen(peer_map: PeerTable, peer: PeerId, now: float, *, connected: bool = True) -> PeerTable:
    return measured(
        peer_map, peer, rtt_ms=7, up_bytes=1, down_bytes=2, is_connected=connected, now=now
    )


def only(peer_map: PeerTable, now: float) -> PeerView:
    (shown,) = view(peer_map, now)
    return shown


def test_an_announcement_survives_the_wire() -> None:
    assert parse_announcement(encode(ANNOUNCEMENT)) == ANNOUNCEMENT


@pytest.mark.parametrize(
    "change",
    [
        {"run16": b"r"},
        {"roles": 8},
        {"seats": ((0, 0),) * 65},
        {"seats": ((0, -1),)},
        {"tokens_per_s": -1},
        {"loss_milli": -2},
        {"round": 1 << 60},
        {"reachability": "public"},
        {"version": "v\n"},
        {"addresses": ("a",) * 9},
        {"state": "sleeping"},
        {"last_partner": b"x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_field_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(BadEncoding):
        parse_announcement(encode(msgspec.structs.replace(ANNOUNCEMENT, **change)))


@pytest.mark.rule("D11")
def test_the_newest_announcement_wins_in_any_order() -> None:
    newer = msgspec.structs.replace(ANNOUNCEMENT, round=4)
    peer_map = fold(PeerTable(), A, newer, 2, 10.0)
    assert fold(peer_map, A, ANNOUNCEMENT, 1, 11.0) is peer_map
    assert fold(peer_map, A, ANNOUNCEMENT, 2, 11.0) is peer_map
    assert only(peer_map, 12.0).announcement == newer
    assert only(peer_map, 12.0).age_s == 2.0


@pytest.mark.rule("D8", "D11")
def test_a_clock_that_was_set_back_silences_nobody_who_is_heard() -> None:
    set_back = msgspec.structs.replace(ANNOUNCEMENT, round=5)
    before = fold(PeerTable(), A, ANNOUNCEMENT, 10 * LATE_NS, 10.0)
    assert heard(before, A, set_back, 9 * LATE_NS, 11.0) is before, "overtaken on its way"
    assert fold(before, A, set_back, LATE_NS, 11.0) is before, "hearsay"
    after = heard(before, A, set_back, LATE_NS, 11.0)
    assert only(after, 11.0).announcement == set_back
    assert only(heard(after, A, ANNOUNCEMENT, LATE_NS + 1, 12.0), 12.0).announcement == ANNOUNCEMENT


def test_folding_leaves_the_old_map_as_it_was() -> None:
    empty = PeerTable()
    fold(empty, A, ANNOUNCEMENT, 1, 0.0)
    assert view(empty, 0.0) == ()


def test_a_connected_training_peer_is_ok() -> None:
    shown = only(seen(fold(PeerTable(), A, ANNOUNCEMENT, 1, 10.0), A, 10.0), 12.0)
    assert (shown.state, shown.reason, shown.rtt_ms) == ("training", "ok", 7)
    assert (shown.up_bytes, shown.down_bytes, shown.is_measured) == (1, 2, True)


@pytest.mark.rule("D11")
def test_a_peer_gone_silent_is_unreachable_with_its_time() -> None:
    peer_map = seen(fold(PeerTable(), A, ANNOUNCEMENT, 1, 10.0), A, 10.0, connected=False)
    assert only(peer_map, 12.0).reason == "ok"  # one lost connection is not yet an absence
    shown = only(peer_map, 50.0)
    assert (shown.state, shown.reason) == ("unreachable", "unreachable 40 s")


@pytest.mark.rule("D11")
def test_a_peer_behind_the_median_is_slow_with_its_lag() -> None:
    peer_map = PeerTable()
    for peer, reached in ((A, 9), (B, 9), (C, 7)):
        peer_map = fold(
            peer_map, peer, msgspec.structs.replace(ANNOUNCEMENT, round=reached), 1, 10.0
        )
    assert [shown.reason for shown in view(peer_map, 10.0)] == ["ok", "ok", "slow: 2 rounds behind"]


@pytest.mark.rule("D11")
def test_one_boaster_does_not_make_the_others_slow() -> None:
    peer_map = PeerTable()
    for peer, reached in ((A, 9), (B, 9), (C, 10**6)):
        peer_map = fold(
            peer_map, peer, msgspec.structs.replace(ANNOUNCEMENT, round=reached), 1, 10.0
        )
    assert {shown.reason for shown in view(peer_map, 10.0)} == {"ok"}


def test_a_peer_without_an_announcement_is_unknown() -> None:
    assert only(seen(PeerTable(), A, 10.0), 11.0).reason == "no announcement yet"


@pytest.mark.rule("D11")
def test_a_connected_peer_that_stops_announcing_is_named() -> None:
    peer_map = seen(fold(PeerTable(), A, ANNOUNCEMENT, 1, 0.0), A, 40.0)
    assert only(peer_map, 40.0).reason == "silent 40 s"


def test_the_map_is_ordered_bounded_and_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "PEERS_MAX", 2)
    peer_map = PeerTable()
    for number, peer in enumerate((C, A, B)):
        peer_map = fold(peer_map, peer, ANNOUNCEMENT, 1, float(number))
    assert [shown.peer for shown in view(peer_map, 3.0)] == [A, B]
    assert view(peer_map, 3.0 + directory.FORGET_S) == ()
