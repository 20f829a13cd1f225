"""Several trades of a fragment in a round: each is merged once, in order, and replays bit for bit."""

from collections.abc import Iterator
from functools import cache

import pytest

from swarm.config.spec import RunSpec
from swarm.errors import BadEncoding, OutOfTurn, PeerFault
from swarm.gossip.trade.messages import Codec
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED
from swarm.training.record.window import (
    FragmentMerged,
    SnapshotTaken,
    StepTaken,
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.training.terms import terms_of
from swarm.types import NO_DIGEST, StageIndex
from swarm.verify.log_rules import check_window
from swarm.verify.replay import replay
from swarm.verify.transcript import state_root
from tests.verify.windows import TOKENS, Harvest, Segment, harvest, spec_of

TRADES = 3
STEPS = 16
"""Of a segment: trades go on until the later windows."""
EXACT = "seq-f32/1"


def a_run(codec: str, trades: int = TRADES) -> RunSpec:
    spec = spec_of(1, EXACT, layers=1)
    outer = replace(spec.outer, codec=codec, trades_per_round=trades)
    return replace(spec, rounds=20, inner_steps_max=STEPS, outer=outer)


@cache
def crop(codec: str = "int8") -> Harvest:
    if codec == "int8":
        return harvest(a_run(codec), replicas=4, codecs=(Codec.INT8,))
    # The partners are the same in every codec: a pair and a round have all that differs.
    return harvest(a_run(codec), rounds=1, codecs=(Codec.INT4,))


def merges_of(data: WindowData) -> list[FragmentMerged]:
    return [event for event in data.events if isinstance(event, FragmentMerged)]


def windows_of(harvested: Harvest) -> Iterator[tuple[Segment, WindowData]]:
    for segment in harvested.segments.values():
        for data in segment.windows:
            yield segment, data


def fragment_of(exchange: int) -> int:
    return crop().spec.outer.fragment_of(exchange)


@pytest.mark.rule("V16", "T17a")
@pytest.mark.parametrize("codec", ["int8", "int4", "int4-mean"])
def test_segments_of_three_trades_replay_bit_for_bit_from_their_bytes(codec: str) -> None:
    harvested = crop(codec)
    for (_, stage, _), segment in harvested.segments.items():
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            raw = b"".join(bytes(piece) for piece in encode_window(data))
            result = replay(
                segment.plan, decode_window(harvested.spec, raw), TOKENS, harvested.anchors[stage]
            )
            assert result == claim
            if data.key.window == 0:
                assert result.start_root == state_root(segment.log.start)


def test_every_exchange_is_merged_once_and_each_has_partners_of_its_own() -> None:
    outer = crop().spec.outer
    partners = dict[int, set[tuple[int, int]]]()
    for (number, stage, seat), segment in crop().segments.items():
        merged = [merge.exchange for data in segment.windows for merge in merges_of(data)]
        assert sorted(merged) == list(range(outer.exchanges))
        for exchange in range(outer.exchanges) if number == 0 else ():
            terms = terms_of(segment.plan, StageIndex(stage), seat, exchange)
            assert terms is not None
            partners.setdefault(exchange, set()).add((seat, terms.partner.index))
    assert len({frozenset(pairs) for pairs in partners.values()}) > 1


def test_windows_that_begin_between_trades_say_which_are_over() -> None:
    starts = [data.start.trades_over for _, data in windows_of(crop()) if data.key.window]
    assert any(any(over) for over in starts)
    pending = [held for _, data in windows_of(crop()) for held in data.start.snapshots]
    assert any(exchange >= crop().spec.outer.fragments for exchange, _, _ in pending)


# --- a seat that merges more often, or in another order ---


def at_merge(*, again: bool = False) -> tuple[Segment, WindowData, FragmentMerged]:
    """A window with a merge of a second trade, or one in which a fragment was merged before it began."""
    for segment, data in windows_of(crop()):
        for merged in merges_of(data):
            over = data.start.trades_over[fragment_of(merged.exchange)]
            if (over > 0) if again else merged.exchange >= crop().spec.outer.fragments:
                return segment, data, merged
    raise AssertionError("no such merge")


def refused(segment: Segment, data: WindowData) -> None:
    with pytest.raises(OutOfTurn):
        check_window(segment.plan, data)
    assert crop().answer(data) == REFUSED


def behind(data: WindowData, merged: FragmentMerged, *added: object) -> WindowData:
    """The window with more events behind a merge."""
    at = data.events.index(merged) + 1
    return replace(data, events=(*data.events[:at], *added, *data.events[at:]))


@pytest.mark.rule("V11a")
def test_an_exchange_cannot_be_merged_twice() -> None:
    segment, data, merged = at_merge()
    refused(segment, behind(data, merged, merged))
    refused(segment, behind(data, merged, SnapshotTaken(merged.exchange), merged))


@pytest.mark.rule("V11a")
def test_an_exchange_that_an_earlier_window_merged_cannot_be_merged_again() -> None:
    segment, data, merged = at_merge(again=True)
    before = replace(merged, exchange=fragment_of(merged.exchange))
    refused(segment, behind(data, merged, SnapshotTaken(before.exchange), before))
    first = next(event for event in data.events if isinstance(event, StepTaken))
    at = data.events.index(first) + 1
    events = (*data.events[:at], SnapshotTaken(before.exchange), before, *data.events[at:])
    refused(segment, replace(data, events=events))


def test_a_state_that_forgets_what_was_merged_is_another_state() -> None:
    """The seat would have to commit to it: the window before ends in the state that remembers."""
    segment, data, _ = at_merge(again=True)
    lie = replace(data.start, trades_over=(0,) * len(data.start.trades_over))
    forgetful = replace(data, start=lie)
    number = segment.windows.index(data)
    honest = segment.claims()
    assert crop().answer(segment.windows[number - 1]).end_root == honest[number - 1].end_root
    result = replay(segment.plan, forgetful, TOKENS, crop().anchors[data.key.stage])
    assert result.start_root != honest[number - 1].end_root
    assert result.leaves_root != honest[number].leaves_root


@pytest.mark.rule("V11a")
def test_exchanges_of_a_fragment_cannot_change_places() -> None:
    segment, data, merged = at_merge()
    earlier = merged.exchange - crop().spec.outer.fragments
    solo = FragmentMerged(earlier, -1, 0, NO_DIGEST, None)
    refused(segment, behind(data, merged, SnapshotTaken(earlier), solo))
    # A copy for a later exchange does not serve an earlier one.
    at = data.events.index(merged)
    events = (*data.events[:at], replace(merged, exchange=earlier), *data.events[at + 1 :])
    refused(segment, replace(data, events=events))


@pytest.mark.rule("V11a")
def test_an_exchange_may_be_left_out_like_a_trade_that_failed() -> None:
    for segment, data in windows_of(crop()):
        merges = merges_of(data)
        if merges:
            left = tuple(event for event in data.events if event is not merges[-1])
            check_window(segment.plan, replace(data, events=left))


def test_more_exchanges_than_the_round_has_are_refused() -> None:
    segment, data, merged = at_merge()
    for exchange in (-1, crop().spec.outer.exchanges):
        with pytest.raises(PeerFault):
            check_window(segment.plan, behind(data, merged, SnapshotTaken(exchange)))
        assert crop().answer(behind(data, merged, SnapshotTaken(exchange))) == REFUSED
    final = replace(segment.plan, consensus=0)
    assert final.exchanges == crop().spec.outer.fragments


@pytest.mark.parametrize(
    "trades_over", [(), (0,), (0, 0, 0), (TRADES + 1, 0), (-1, 0)], ids=lambda over: str(len(over))
)
def test_a_start_with_impossible_trades_is_refused(trades_over: tuple[int, ...]) -> None:
    _, data, _ = at_merge(again=True)
    bent = replace(data, start=replace(data.start, trades_over=trades_over))
    assert crop().answer(bent) == REFUSED
    raw = b"".join(bytes(piece) for piece in encode_window(bent))
    with pytest.raises(BadEncoding):
        decode_window(crop().spec, raw)


@pytest.mark.rule("V14")
def test_a_segment_does_not_begin_with_trades_that_are_over() -> None:
    data = next(data for _, data in windows_of(crop()) if data.key.window == 0)
    bent = replace(data, start=replace(data.start, trades_over=(1, 0)))
    assert crop().answer(bent) == REFUSED


def test_a_run_of_one_trade_a_round_has_no_count_of_them() -> None:
    shown = harvest(a_run("int8", trades=1), rounds=1)
    for _, data in windows_of(shown):
        assert data.start.trades_over == ()
        assert shown.answer(replace(data, start=replace(data.start, trades_over=(0, 0)))) == REFUSED
