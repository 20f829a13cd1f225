"""Runs in every codec, of one tensor or two, replay bit for bit; a residual moves by receipt alone."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from swarm.config.spec import RunSpec
from swarm.errors import PeerFault
from swarm.gossip.trade.messages import Codec, Receipt, sign_receipt
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, WindowResult, hash_of
from swarm.training.record.segment import MergeRecord
from swarm.training.record.window import (
    Event,
    FragmentMerged,
    WindowData,
)
from swarm.training.record.window_bytes import (
    decode_window,
    encode_window,
)
from swarm.types import NO_DIGEST, Digest
from swarm.verify.replay import replay
from swarm.verify.transcript import COMPONENTS, state_root
from tests.verify.logs import with_events
from tests.verify.windows import CHAIN, TOKENS, Field, Harvest, Segment, harvest, spec_of

EXACT = "seq-f32/1"
RESIDUAL = COMPONENTS.index("residual")
ROUNDS = 4
"""Of the run; the last tenth of four is one, which is fine."""


def a_run(codec: str, *, two: bool = False, activations: str = "bf16", stages: int = 1) -> RunSpec:
    spec = spec_of(stages, EXACT, layers=stages)
    gamma = 900_000_000 if two else spec.outer.beta_nano
    outer = replace(spec.outer, codec=codec, gamma_nano=gamma)
    wire = replace(spec.wire, activations=activations)
    return replace(spec, rounds=ROUNDS, outer=outer, wire=wire)


def lossy(swarm: Field) -> None:
    """Every receipt that comes to seat 1 in round 1 is lost."""
    swarm.is_acknowledged = lambda receipt: (receipt.key.round, receipt.key.seat) != (1, 1)


@cache
def crop(codec: str, two: bool, *, is_lossy: bool = False) -> Harvest:
    common = {"int4": Codec.INT4, "int8": Codec.INT8, "bf16": Codec.BF16}[codec]
    prepare = lossy if is_lossy else lambda _: None
    codecs = (common, common, Codec.BF16, None)
    return harvest(a_run(codec, two=two), rounds=ROUNDS, codecs=codecs, prepare=prepare)


@cache
def a_pipeline(activations: str) -> Harvest:
    spec = a_run("int4", activations=activations, stages=3)
    return harvest(spec, rounds=1, codecs=(Codec.INT4,), seconds=25.0)


def merges_of(data: WindowData) -> list[FragmentMerged]:
    return [event for event in data.events if isinstance(event, FragmentMerged)]


def check_replays(harvested: Harvest) -> None:
    for (_, stage, _), segment in harvested.segments.items():
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            raw = b"".join(bytes(piece) for piece in encode_window(data))
            read = decode_window(harvested.spec, raw)
            result = replay(segment.plan, read, TOKENS, harvested.anchors[stage])
            assert result == claim
            if data.key.window == 0:
                assert result.start_root == state_root(segment.log.start)


@pytest.mark.rule("V16")
@pytest.mark.parametrize("two", [False, True], ids=["one tensor", "two tensors"])
@pytest.mark.parametrize("codec", ["int4", "int8", "bf16"])
def test_honest_windows_replay_to_their_solvers_leaves(codec: str, two: bool) -> None:
    harvested = crop(codec, two)
    check_replays(harvested)
    windows = [data for one in harvested.segments.values() for data in one.windows]
    offers = [merged.offer for data in windows for merged in merges_of(data)]
    seen = {offer and offer.codec for offer in offers}
    late = {Codec.INT8} if codec == "int4" else set[Codec]()
    common = {"int4": Codec.INT4, "int8": Codec.INT8, "bf16": Codec.BF16}[codec]
    assert seen == {common, Codec.BF16, None, *late}


@pytest.mark.rule("G23")
def test_the_last_round_of_a_run_in_int4_is_traded_in_int8() -> None:
    for (number, _, _), segment in crop("int4", two=False).segments.items():
        for data in segment.windows:
            codecs = {one.offer.codec for one in merges_of(data) if one.offer is not None}
            allowed = Codec.INT8 if number == ROUNDS - 1 else Codec.INT4
            assert codecs <= {allowed, Codec.BF16}


@pytest.mark.parametrize("activations", ["bf16", "int8"])
def test_a_pipeline_replays_whatever_its_activations_travel_as(activations: str) -> None:
    harvested = a_pipeline(activations)
    check_replays(harvested)
    sizes = {
        len(one.reply.payload)
        for segment in harvested.segments.values()
        for data in segment.windows
        for event in data.events
        if hasattr(event, "microbatches")
        for one in event.microbatches
        if one.reply is not None
    }
    numel = 4 * 16 * 16
    assert sizes == {2 * numel if activations == "bf16" else numel + 2 * numel // 128}


# --- the residual ---


def moves(segment: Segment) -> Iterator[tuple[FragmentMerged, bool]]:
    """Each merge of a segment, and whether the residual moved with it."""
    events = [merged for data in segment.windows for merged in merges_of(data)]
    records = [record for record in segment.log.records if isinstance(record, MergeRecord)]
    before = segment.log.start[RESIDUAL]
    for event, record in zip(events, records, strict=True):
        after = record.components[RESIDUAL]
        yield event, after != before
        before = after


@pytest.mark.rule("T21b", "V13a")
@pytest.mark.parametrize("two", [False, True], ids=["one tensor", "two tensors"])
def test_the_residual_moves_with_an_acknowledged_payload_in_int4_and_with_nothing_else(
    two: bool,
) -> None:
    harvested = crop("int4", two, is_lossy=True)
    check_replays(harvested)
    seen = set[tuple[bool, bool]]()
    for (number, _, seat), segment in harvested.segments.items():
        for merged, has_moved in moves(segment):
            assert has_moved == (merged.receipt is not None)
            if (number, seat) == (1, 1) or number == ROUNDS - 1:
                assert not has_moved
            seen.add((has_moved, merged.offer is None))
    assert seen == {(True, False), (True, True), (False, False), (False, True)}


def test_a_run_in_int8_has_no_residual_and_pays_for_none() -> None:
    nothing = hash_of(torch.zeros(0))
    for segment in crop("int8", two=False).segments.values():
        assert {segment.log.start[RESIDUAL], segment.log.end[RESIDUAL]} == {nothing}
        assert all(data.start.residual_R.numel() == 0 for data in segment.windows)
        assert all(one.receipt is None for data in segment.windows for one in merges_of(data))


# --- lies about it ---


def changed_windows(
    change: object, *, two: bool = False
) -> Iterator[tuple[Harvest, WindowData, WindowResult]]:
    """Windows of the run in int4 in which one merge with a receipt was replace, and the truth of each."""
    harvested = crop("int4", two)
    for segment in harvested.segments.values():
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            if any(merged.receipt is not None for merged in merges_of(data)):
                yield harvested, with_events(data, change), claim  # type: ignore[arg-type]


def bent(harvested: Harvest, merged: FragmentMerged, **changes: object) -> FragmentMerged:
    """A merge whose receipt says something else, signed by the same partner."""
    assert merged.receipt is not None
    secret = harvested.secrets[merged.receipt.key.stage, merged.receipt.to_seat]
    receipt = replace(merged.receipt, **changes)
    return replace(merged, receipt=sign_receipt(secret, CHAIN, receipt))


@pytest.mark.rule("V13a")
def test_a_receipt_that_is_not_the_partners_word_for_this_payload_is_refused() -> None:
    harvested = crop("int4", two=False)
    other = Digest(bytes(reversed(range(32))))

    def lies(merged: FragmentMerged) -> list[FragmentMerged]:
        receipt = merged.receipt
        assert isinstance(receipt, Receipt)
        forged = sign_receipt(harvested.secrets[0, receipt.key.seat], CHAIN, receipt)
        return [
            replace(merged, receipt=replace(receipt, signature=bytes(64))),
            replace(merged, receipt=forged),
            bent(harvested, merged, payload_hash=other),
            bent(harvested, merged, to_seat=receipt.key.seat),
            bent(harvested, merged, key=replace(receipt.key, round=receipt.key.round + 1)),
            bent(harvested, merged, key=replace(receipt.key, exchange=1 - receipt.key.exchange)),
            replace(bent(harvested, merged, payload_hash=other), my_payload=other),
        ]

    for number in range(7):

        def change(event: Event, number: int = number) -> Event:
            has = isinstance(event, FragmentMerged) and event.receipt is not None
            return lies(event)[number] if has else event  # type: ignore[arg-type]

        answers = [crop_.answer(data) for crop_, data, _ in changed_windows(change)]
        assert answers
        assert set(answers) == {REFUSED}


@pytest.mark.rule("T21b", "V13a")
def test_a_receipt_that_is_kept_back_is_another_state() -> None:
    """It costs the solver nothing but accuracy, so it is no lie: but it is not what was committed."""

    def change(event: Event) -> Event:
        return replace(event, receipt=None) if isinstance(event, FragmentMerged) else event

    for harvested, data, claim in changed_windows(change):
        alone = any(one.offer is None and one.my_payload != NO_DIGEST for one in merges_of(data))
        answer = harvested.answer(data)
        assert answer != claim
        assert (answer == REFUSED) == alone


@pytest.mark.rule("V13a")
def test_a_receipt_in_a_round_that_moves_no_residual_is_refused() -> None:
    harvested = crop("int8", two=False)
    segment = harvested.segments[0, 0, 0]
    data = next(data for data in segment.windows if any(m.offer for m in merges_of(data)))

    def change(event: Event) -> Event:
        if not isinstance(event, FragmentMerged) or event.offer is None:
            return event
        ours = replace(event.offer.key, seat=0)
        unsigned = Receipt(ours, event.partner_seat, event.my_payload, b"")
        secret = harvested.secrets[0, event.partner_seat]
        return replace(event, receipt=sign_receipt(secret, CHAIN, unsigned))

    with pytest.raises(PeerFault):
        replay(segment.plan, with_events(data, change), TOKENS, harvested.anchors[0])


def test_a_residual_that_was_never_left_is_seen() -> None:
    harvested = crop("int4", two=False)
    numel = next(iter(harvested.segments.values())).windows[0].start.params_P.numel()
    segment = harvested.segments[1, 0, 0]
    for data, claim in zip(segment.windows, segment.claims(), strict=True):
        start = data.start
        assert bool(start.residual_R.any())
        for residual in (
            torch.zeros(numel),
            start.residual_R * 2,
            torch.zeros(0),
            torch.zeros(numel + 1),
            torch.full((numel,), float("nan")),
        ):
            lie = replace(data, start=replace(start, residual_R=residual))
            answer = harvested.answer(lie)
            # Its leaves are hashes of the state it starts from; where none is taken, the end is another.
            assert answer != claim
            if residual.numel() != numel or not bool(torch.isfinite(residual).all()):
                assert answer == REFUSED
