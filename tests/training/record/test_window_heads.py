"""A header says nothing that no honest seat writes, and is never longer than the run allows."""

from collections.abc import Callable

import pytest

from swarm.config.spec import NANO
from swarm.errors import BadEncoding
from swarm.gossip.pairing import FINAL_ROUNDS_MAX
from swarm.gossip.trade.messages import FragmentKey, Receipt
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SIGNATURE_BYTES
from swarm.training.messages import COUNT_MAX
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.record.window import (
    SNAPSHOTS_MAX,
    AnchorSet,
    EventHead,
    MergeHead,
    SnapshotTaken,
    StepTaken,
    WindowHead,
    header_bytes_max,
)
from swarm.training.record.window_bytes import (
    MAGIC,
    encode_window,
    head_bytes,
    split_window,
)
from swarm.training.shard import DROPPED_MAX
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from tests.training.logs import SPEC, recorded

FRAGMENTS = SPEC.outer.fragments
WIDTH = SPEC.checks.window_steps
Bend = Callable[[WindowHead], WindowHead]


def a_head(stage: int = 1) -> WindowHead:
    for data in recorded(stage):
        raw = b"".join(encode_window(data))
        head, _ = split_window(SPEC, memoryview(raw))
        if any(isinstance(event, MergeHead) for event in head.events):
            return head
    raise AssertionError("no window with a merge")


def accept(head: WindowHead) -> WindowHead:
    return split_window(SPEC, memoryview(head_bytes(head)))[0]


def bent_step(**changes: object) -> Bend:
    return bent(StepTaken, lambda event: replace(event, **changes))


def bent_merge(**changes: object) -> Bend:
    return bent(MergeHead, lambda event: replace(event, **changes))


def bent_receipt(**changes: object) -> Bend:
    return bent_merge(receipt=replace(A_RECEIPT, **changes))


def bent_offer(**changes: object) -> Bend:
    def bend(event: MergeHead) -> MergeHead:
        assert event.offer is not None
        return replace(event, offer=replace(event.offer, **changes))

    return bent(MergeHead, bend)


def bent_microbatch(**changes: object) -> Bend:
    return bent(
        StepTaken,
        lambda event: replace(
            event, microbatches=(replace(event.microbatches[0], **changes), *event.microbatches[1:])
        ),
    )


def bent_message(name: str, **changes: object) -> Bend:
    def bend(event: StepTaken) -> StepTaken:
        one = event.microbatches[0]
        message = replace(getattr(one, name), **changes)
        return replace(
            event, microbatches=(replace(one, **{name: message}), *event.microbatches[1:])
        )

    return bent(StepTaken, bend)


def bent(kind: type, change: Callable[..., EventHead]) -> Bend:
    def bend(head: WindowHead) -> WindowHead:
        events = list(head.events)
        index = next(at for at, event in enumerate(events) if isinstance(event, kind))
        events[index] = change(events[index])
        return replace(head, events=tuple(events))

    return bend


def plus(*events: EventHead) -> Bend:
    return lambda head: replace(head, events=(*head.events, *events))


def only(**changes: object) -> Bend:
    return lambda head: replace(head, **changes)


A_STEP = next(event for event in a_head().events if isinstance(event, StepTaken))
A_MERGE = next(event for event in a_head().events if isinstance(event, MergeHead))
A_RECEIPT = Receipt(
    FragmentKey(RunIndex(1), StageIndex(0), 0, RoundIndex(0), 0),
    1,
    NO_DIGEST,
    bytes(SIGNATURE_BYTES),
)
MANY = tuple((0, 0, number) for number in range(DROPPED_MAX + 1))


def test_an_honest_header_is_accepted() -> None:
    for stage in range(3):
        assert accept(a_head(stage)) == a_head(stage)
    with_receipt = bent_merge(receipt=A_RECEIPT)(a_head())
    assert accept(with_receipt) == with_receipt


@pytest.mark.rule("S36")
@pytest.mark.parametrize(
    "bend",
    [
        *(only(**{name: -1}) for name in ("run", "seat", "window", "step", "tokens_total")),
        *(
            only(**{name: COUNT_MAX + 1})
            for name in ("run", "seat", "window", "step", "tokens_total")
        ),
        only(stage=3),
        only(round=SPEC.rounds + FINAL_ROUNDS_MAX),
        only(anchor_root=b""),
        only(anchor_root=bytes(33)),
        only(tokens_at_sync=(0,)),
        only(tokens_at_sync=(0,) * (FRAGMENTS + 1)),
        only(tokens_at_sync=(0, 1 << 50)),
        only(tokens_at_sync=(-1, 0)),
        only(snapshots=((FRAGMENTS, 0),)),
        only(snapshots=((-1, 0),)),
        only(snapshots=((0, 1 << 50),)),
        only(snapshots=((1, 0), (0, 0))),
        only(snapshots=((0, 0), (0, 0))),
        only(events=()),
        plus(AnchorSet(Digest(bytes(31)))),
        plus(AnchorSet(NO_DIGEST), AnchorSet(NO_DIGEST)),
        plus(SnapshotTaken(FRAGMENTS)),
        plus(*[SnapshotTaken(0)] * (SNAPSHOTS_MAX * FRAGMENTS + 1)),
        plus(*[A_STEP] * WIDTH),
        plus(*[A_MERGE] * FRAGMENTS),
        bent_merge(exchange=FRAGMENTS),
        bent_merge(exchange=-1),
        bent_merge(partner_seat=-1),
        bent_merge(partner_seat=-2),
        bent_merge(weight_nano=-1),
        bent_merge(weight_nano=NANO + 1),
        bent_merge(my_payload=b""),
        bent_merge(offer=None),
        bent_receipt(signature=b""),
        bent_receipt(payload_hash=Digest(bytes(31))),
        bent_receipt(to_seat=-1),
        bent_receipt(key=replace(A_RECEIPT.key, round=-1)),
        bent_receipt(key=replace(A_RECEIPT.key, seat=1 << 60)),
        bent_offer(signature=b""),
        bent_offer(signature=bytes(1000)),
        bent_offer(payload_hash=Digest(b"")),
        bent_offer(chunk_root=Digest(bytes(64))),
        bent_offer(tokens=-1),
        bent_offer(wire_bytes=1 << 60),
        bent_step(step=-1),
        bent_step(microbatches=()),
        bent_step(microbatches=A_STEP.microbatches * 2),
        bent_step(dropped=MANY),
        bent_step(dropped=((0, 0, 1), (0, 0, 0))),
        bent_step(dropped=((0, 0, 0), (0, 0, 0))),
        bent_step(dropped=((0, -1, 0),)),
        bent_microbatch(request=None),
        bent_microbatch(reply=None),
        bent_microbatch(origin=-1),
        bent_message("request", payload=b"\x00"),
        bent_message("reply", payload=b"\x00"),
        bent_message("request", signature=bytes(65)),
        bent_message("reply", signature=b""),
        bent_message("reply", activations=b""),
        bent_message("reply", loss_micro=-2),
        bent_message("reply", tokens=-1),
        bent_message("reply", version=1 << 60),
    ],
)
def test_what_no_honest_seat_writes_is_refused(bend: Bend) -> None:
    with pytest.raises(BadEncoding):
        accept(bend(a_head()))


def test_too_many_microbatches_are_refused() -> None:
    one = A_STEP.microbatches[0]
    many = tuple(replace(one, step=number) for number in range(MICROBATCHES_MAX + 1))
    with pytest.raises(BadEncoding, match="micro-batches"):
        accept(bent_step(microbatches=many)(a_head()))
    assert accept(bent_step(microbatches=many[1:])(a_head()))


@pytest.mark.rule("T28")
def test_the_longest_honest_header_fits() -> None:
    """Every number at its largest, every list full."""
    big = COUNT_MAX
    one = A_STEP.microbatches[0]
    assert one.request is not None
    assert one.reply is not None
    numbers = ("run", "round", "step", "microbatch", "origin", "stage", "source", "destination")
    wide = dict.fromkeys((*numbers, "incarnation", "version"), big)
    request = replace(one.request, **wide, budget_ms=big, batch=big, length=big, features=big)
    reply = replace(one.reply, **wide, loss_micro=big, tokens=big)
    computed = replace(one, origin=big, step=big, microbatch=big, request=request, reply=reply)
    step = StepTaken(big, (computed,) * MICROBATCHES_MAX, ((big, big, big),) * DROPPED_MAX)
    assert A_MERGE.offer is not None
    key = replace(A_MERGE.offer.key, **dict.fromkeys(A_MERGE.offer.key.__struct_fields__, big))
    counts = dict.fromkeys(("step", "tokens", "num_bytes", "wire_bytes"), big)
    offer = replace(A_MERGE.offer, key=key, **counts)
    receipt = Receipt(key, big, NO_DIGEST, bytes(SIGNATURE_BYTES))
    merge = MergeHead(
        exchange=FRAGMENTS - 1,
        partner_seat=big,
        weight_nano=NANO,
        my_payload=NO_DIGEST,
        offer=offer,
        receipt=receipt,
    )
    head = replace(
        a_head(),
        **dict.fromkeys(("run", "round", "stage", "seat", "window", "step", "tokens_total"), big),
        tokens_at_sync=(big,) * FRAGMENTS,
        snapshots=((FRAGMENTS - 1, big),) * FRAGMENTS,
        events=(
            AnchorSet(NO_DIGEST),
            *[SnapshotTaken(FRAGMENTS - 1)] * (SNAPSHOTS_MAX * FRAGMENTS),
            *[merge] * FRAGMENTS,
            *[step] * WIDTH,
        ),
    )
    assert len(encode(head)) < header_bytes_max(SPEC)


@pytest.mark.rule("T28")
def test_another_form_is_not_a_window() -> None:
    raw = head_bytes(a_head())
    assert raw.startswith(MAGIC)
    for bad in (b"", raw[:5], b"SWARMWN1" + raw[8:], raw[:8] + bytes(4) + raw[12:]):
        with pytest.raises(BadEncoding):
            split_window(SPEC, memoryview(bad))
