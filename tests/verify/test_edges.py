"""What honest seats sign is what they list, whatever was lost; who sends something else is proved a liar."""

from collections.abc import Sequence
from dataclasses import replace as changed

import pytest
import torch

from swarm.errors import BadEncoding, BrokenPromise, InvalidStatement, PeerFault
from swarm.gossip.trade.messages import Offer, sign_offer
from swarm.ledger.edges import (
    EDGE_FRAUD_BYTES_MAX,
    EdgeFraud,
    EdgeMessage,
    check_fraud,
    check_fraud_shape,
    sender_of,
)
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import REFUSED
from swarm.primitives.crypto import fast_digest
from swarm.primitives.edges import (
    ActivationSent,
    GradientSent,
    SentEntry,
    SentKind,
    sent_root,
    signed_bytes,
)
from swarm.training.record.window import FragmentMerged, SnapshotTaken, Uncounted, WindowData
from swarm.types import NO_DIGEST, Digest
from swarm.verify.edges import decode_list, disorder_in, edges_in, encode_list, find_lie
from swarm.verify.replay import Committed, answer
from swarm.verify.transcript import state_root
from tests.verify.windows import CHAIN, TOKENS, Harvest, Segment, honest

EXACT = "seq-f32/1"
LIE = Digest(fast_digest("test", b"something else"))


def lossy() -> Harvest:
    """Three stages on links that lose every seventh frame."""
    return honest(3, EXACT, loss=0.15)


def segment_of(crop: Harvest, message: EdgeMessage) -> Segment:
    _, round_, stage, seat = sender_of(message)
    return crop.segments[round_, stage, seat]


def proof_against(crop: Harvest, message: EdgeMessage) -> EdgeFraud | None:
    log = segment_of(crop, message).log
    return find_lie([message], 1 + log.seat, log.sent)


def all_messages(crop: Harvest) -> list[EdgeMessage]:
    """Everything that some log has of what another seat signed, and that seat had a list for."""
    found = [
        message
        for segment in crop.segments.values()
        for data in segment.windows
        for message in edges_in(data)
    ]
    anchors = {root for stage in crop.anchors.values() for root in stage}
    return [m for m in found if not isinstance(m, Offer) or m.anchor_root in anchors]


def a_message(crop: Harvest, kind: type[EdgeMessage]) -> EdgeMessage:
    return next(message for message in all_messages(crop) if isinstance(message, kind))


def check(crop: Harvest, proof: EdgeFraud, sent: Sequence[SentEntry] | None = None) -> None:
    """As every validator does; ``sent`` is the list that the commit names, if not the honest one."""
    honest_list = crop.segments[proof.round, proof.stage, proof.seat].log.sent
    check_fraud_shape(proof)
    assert len(encode(proof)) <= EDGE_FRAUD_BYTES_MAX
    check_fraud(
        proof,
        peer=crop.secrets[proof.stage, proof.seat].peer,
        incarnation=1 + proof.seat,
        sent_root=sent_root(honest_list if sent is None else sent),
        chain=CHAIN,
        run_digest=crop.spec.digest,
    )


def signed(crop: Harvest, message: EdgeMessage) -> EdgeMessage:
    """The message with the signature of its sender."""
    _, _, stage, seat = sender_of(message)
    secret = crop.secrets[stage, seat]
    if isinstance(message, Offer):
        return sign_offer(secret, CHAIN, message)
    purpose = "micro-batch" if isinstance(message, ActivationSent) else "micro-batch-grad"
    signature = secret.sign(purpose, CHAIN, crop.spec.digest, signed_bytes(message))
    return replace(message, signature=signature)


# --- honest seats ---


@pytest.mark.rule("V35", "V37")
def test_no_honest_seat_is_proved_a_liar_by_anything_it_signed() -> None:
    """Lost frames, answers that come late, micro-batches that nobody counts: all of it is in the lists."""
    crop = lossy()
    messages = all_messages(crop)
    assert {type(message) for message in messages} == {ActivationSent, GradientSent, Offer}
    assert [m for m in messages if proof_against(crop, m) is not None] == []
    uncounted = [
        one
        for segment in crop.segments.values()
        for data in segment.windows
        for event in data.events
        if isinstance(event, Uncounted)
        for one in event.microbatches
    ]
    assert uncounted


@pytest.mark.rule("V35")
def test_an_honest_log_has_the_same_claim_with_its_list() -> None:
    crop = lossy()
    for segment in crop.segments.values():
        assert disorder_in(segment.log.sent) is None
        for data, claim in zip(segment.windows, segment.claims(), strict=True):
            assert crop.answer(data) == claim


# --- a list that is not what its windows compute ---


def said_with(crop: Harvest, segment: Segment, data: WindowData, sent: Sequence[SentEntry]) -> bool:
    """True if the log is refused beside another list."""
    log, stage = segment.log, data.key.stage
    start = state_root(log.start)
    committed = Committed(start, log.num_steps, 1 + log.seat, tuple(sent))
    return answer(committed, segment.plan, data, TOKENS, crop.anchors[stage]) == REFUSED


def a_busy_window(crop: Harvest) -> tuple[Segment, WindowData]:
    """One in which a fragment was copied, offered and merged, in a middle stage."""
    for (_, stage, _), segment in crop.segments.items():
        for data in segment.windows if stage == 1 else ():
            listed = [e for e in segment.log.sent if e.window == data.key.window]
            if {entry.kind for entry in listed} == set(SentKind):
                return segment, data
    raise AssertionError("no window offers anything")


@pytest.mark.rule("V35")
def test_a_log_beside_a_list_of_something_else_is_refused() -> None:
    crop = lossy()
    segment, data = a_busy_window(crop)
    sent, window = segment.log.sent, data.key.window
    assert not said_with(crop, segment, data, sent)
    mine = [at for at, entry in enumerate(sent) if entry.window == window]
    microbatch = next(at for at in mine if sent[at].kind == SentKind.MICROBATCH and sent[at].down)
    fragment = next(at for at in mine if sent[at].kind == SentKind.FRAGMENT)

    def with_entry(at: int, **changes: object) -> list[SentEntry]:
        return [*sent[:at], replace(sent[at], **changes), *sent[at + 1 :]]

    other = window - 1 if window else window + 1
    lies = {
        "other activations": with_entry(microbatch, up=LIE),
        "another gradient": with_entry(microbatch, down=LIE),
        "no gradient": with_entry(microbatch, down=b""),
        "of another window": with_entry(microbatch, window=other),
        "of a window that never was": with_entry(microbatch, window=99),
        "left out": [*sent[:microbatch], *sent[microbatch + 1 :]],
        "never computed": sorted(
            (*sent, SentEntry(0, 0, 9_999, 0, window, LIE, LIE)), key=lambda e: e.place
        ),
        "another fragment": with_entry(fragment, up=LIE),
        "a fragment in another encoding": with_entry(fragment, second=1),
        "twice": [*sent[: microbatch + 1], *sent[microbatch:]],
        "out of order": sent[::-1],
    }
    for name, lie in lies.items():
        assert said_with(crop, segment, data, lie), name
    assert not said_with(crop, segment, data, [*sent[:fragment], *sent[fragment + 1 :]]), (
        "what nobody asked for need not be listed: whoever got it would have its signature"
    )


@pytest.mark.rule("V35")
def test_a_micro_batch_counted_in_two_windows_has_no_place_in_a_list() -> None:
    """A place has one entry, with one window: the replay of any other window refuses it."""
    crop = lossy()
    segment = next(
        s for (_, stage, _), s in crop.segments.items() if stage == 1 and len(s.windows) > 1
    )
    sent = segment.log.sent
    entry = next(e for e in sent if e.window == 0 and e.kind == SentKind.MICROBATCH)
    moved = [replace(e, window=1) if e == entry else e for e in sent]
    assert said_with(crop, segment, segment.windows[0], moved), "counted here, listed there"
    assert said_with(crop, segment, segment.windows[1], moved), "listed here, counted there"


@pytest.mark.rule("V36")
def test_answers_to_another_start_of_the_process_than_the_commits_are_refused() -> None:
    """A commit with another number than the messages would bind its seat to nothing that it had sent."""
    crop = lossy()
    segment = crop.segments[0, 0, 0]
    log, data = segment.log, segment.windows[0]
    committed = Committed(state_root(log.start), log.num_steps, 2, log.sent)
    assert answer(committed, segment.plan, data, TOKENS, crop.anchors[0]) == REFUSED
    assert crop.answer(data) == segment.claims()[0]


def test_uncounted_micro_batches_are_bounded_and_each_is_there_once() -> None:
    crop = lossy()
    for segment in crop.segments.values():
        for data in segment.windows:
            at = next((n for n, e in enumerate(data.events) if isinstance(e, Uncounted)), None)
            if at is None:
                continue
            event = data.events[at]
            assert isinstance(event, Uncounted)
            twice = changed(data, events=(*data.events[: at + 1], *data.events[at:]))
            left_out = changed(data, events=(*data.events[:at], *data.events[at + 1 :]))
            assert crop.answer(twice) == crop.answer(left_out) == REFUSED
            return
    raise AssertionError("nothing was lost")


# --- lies that are proved by one transaction ---


@pytest.mark.rule("V37", "L92")
@pytest.mark.parametrize("kind", [ActivationSent, GradientSent])
def test_values_sent_that_were_not_computed_are_proved(kind: type[EdgeMessage]) -> None:
    crop = lossy()
    lie = signed(crop, replace(a_message(crop, kind), wire=LIE))
    proof = proof_against(crop, lie)
    assert proof is not None
    check(crop, proof)


@pytest.mark.rule("V37", "L92")
def test_activations_of_a_micro_batch_that_nobody_counted_are_proved() -> None:
    crop = lossy()
    message = a_message(crop, ActivationSent)
    lie = signed(crop, replace(message, step=crop.spec.inner_steps_max - 1, microbatch=0))
    assert lie not in all_messages(crop)
    proof = proof_against(crop, lie)
    assert proof is not None
    assert proof.opening is not None
    check(crop, proof)


@pytest.mark.rule("V37", "L92")
def test_other_bytes_for_one_partner_are_proved() -> None:
    crop = lossy()
    offer = a_message(crop, Offer)
    assert isinstance(offer, Offer)
    for lie in (
        replace(offer, payload_hash=LIE),
        replace(offer, tokens=offer.tokens + 1),
        replace(offer, step=offer.step + 1),
        replace(offer, codec=3),
    ):
        proof = proof_against(crop, signed(crop, lie))
        assert proof is not None
        check(crop, proof)


@pytest.mark.rule("V37", "L92")
def test_a_giver_that_lists_nothing_is_proved_to_have_given() -> None:
    crop = lossy()
    offer = a_message(crop, Offer)
    segment = segment_of(crop, offer)
    sent = tuple(entry for entry in segment.log.sent if entry.kind != SentKind.FRAGMENT)
    proof = find_lie([offer], 1 + segment.log.seat, sent)
    assert proof is not None
    assert len(proof.opening.entries if proof.opening else ()) == 1
    check(crop, proof, sent)


@pytest.mark.rule("V37", "L92")
def test_a_list_with_a_place_twice_is_its_own_proof() -> None:
    crop = lossy()
    message = a_message(crop, GradientSent)
    segment = segment_of(crop, message)
    sent = (*segment.log.sent[:3], *segment.log.sent[2:])
    proof = find_lie([message], 1 + segment.log.seat, sent)
    assert proof is not None
    assert proof.message is None
    check(crop, proof, sent)


@pytest.mark.rule("V37", "L92")
def test_what_was_sent_before_a_restart_proves_nothing_and_after_it_everything() -> None:
    crop = lossy()
    message = a_message(crop, GradientSent)
    own = message.incarnation
    assert (
        proof_against(crop, signed(crop, replace(message, incarnation=own - 1, wire=LIE))) is None
    )
    proof = proof_against(crop, signed(crop, replace(message, incarnation=own + 1)))
    assert proof is not None
    assert proof.opening is None
    check(crop, proof)


@pytest.mark.rule("L92")
def test_an_unsigned_lie_convicts_nobody() -> None:
    """Whoever replays a log does not look at signatures of what it compares: the ledger does."""
    crop = lossy()
    proof = proof_against(crop, replace(a_message(crop, GradientSent), wire=LIE))
    assert proof is not None
    with pytest.raises(InvalidStatement):
        check(crop, proof)


# --- bytes ---


@pytest.mark.rule("V35a")
def test_a_list_is_served_as_bytes_and_checked_against_its_root() -> None:
    sent = lossy().segments[0, 1, 0].log.sent
    raw = encode_list(sent)
    assert decode_list(raw, sent_root(sent)) == sent
    for lie in (raw[:-1], raw + b"\0", b"", encode_list(sent[1:]), encode_list(())):
        with pytest.raises(PeerFault):
            decode_list(lie, sent_root(sent))
    assert decode_list(encode_list(()), NO_DIGEST) == ()
    for odd in (replace(sent[0], up=b"short"), replace(sent[0], third=-1)):
        listed = (odd, *sent[1:])
        with pytest.raises(BadEncoding):  # its root is right, and no opening could show it
            decode_list(encode_list(listed), sent_root(listed))
    with pytest.raises(BrokenPromise):
        decode_list(raw, NO_DIGEST)


def test_the_messages_of_a_log_are_those_that_others_signed() -> None:
    """Each passes the check of its signature, and none is the seat's own."""
    crop = lossy()
    segment, data = a_busy_window(crop)
    for message in edges_in(data):
        _, _, stage, seat = sender_of(message)
        assert (stage, seat) != (data.key.stage, data.key.seat)
        assert signed(crop, message) == message
    merged = [e for e in data.events if isinstance(e, FragmentMerged) and e.offer is not None]
    offers = [m for m in edges_in(data) if isinstance(m, Offer)]
    assert offers == [event.offer for event in merged]
    assert any(isinstance(event, SnapshotTaken) for event in data.events)
    assert torch.isfinite(data.start.params_P).all()
    assert segment.log.sent
