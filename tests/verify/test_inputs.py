"""What a window takes from others is a function of its log, and each event of it can be shown alone."""

import dataclasses

import pytest

from swarm.primitives.codec import encode, replace
from swarm.primitives.merkle import verify_proof
from swarm.training.record.window import Event, FragmentMerged, StepTaken, Uncounted, WindowData
from swarm.types import NO_DIGEST, Digest
from swarm.verify.inputs import InputTree, MergeInputs, StepInputs, dropped_digest
from swarm.verify.manifest import is_of_log, manifest_of
from swarm.verify.program.account import kind_of
from tests.verify.program.scenes import CODEC, trained


def logs() -> list[WindowData]:
    """All windows of a trained seat of each stage."""
    crop = trained(CODEC)
    return [w for (_, _, seat), one in crop.segments.items() if not seat for w in one.windows]


@pytest.mark.rule("V62")
def test_every_event_opens_under_the_root_and_its_micro_batches_under_that() -> None:
    counted = 0
    for data in logs():
        tree = InputTree(data)
        assert len(tree.events) == sum(kind_of(event) is not None for event in data.events)
        for number, event in enumerate(tree.events):
            path = tree.path(number)
            verify_proof(tree.root, encode(event), number, len(tree.events), path)
            if isinstance(event, StepInputs):
                for part in range(event.num_microbatches):
                    one, proof = tree.microbatch(number, part), tree.microbatch_path(number, part)
                    root, count = event.microbatches, event.num_microbatches
                    verify_proof(root, encode(one), part, count, proof)
                    counted += 1
    assert counted > 4


def changed(event: Event) -> list[Event]:
    """The event with other inputs, each in one way."""
    match event:
        case StepTaken(_, microbatches, dropped):
            found = [replace(event, dropped=(*dropped, (9, 9, 9)))]
            found += [replace(event, microbatches=microbatches[:-1])]
            for name in ("request", "reply"):
                message = getattr(microbatches[0], name)
                if message is not None:
                    bent = bytes([message.payload[0] ^ 1]) + bytes(message.payload[1:])
                    one = replace(microbatches[0], **{name: replace(message, payload=bent)})
                    found.append(replace(event, microbatches=(one, *microbatches[1:])))
            return list(found)
        case FragmentMerged():
            other = Digest(b"\x01" * 32)
            merges = [replace(event, weight_nano=event.weight_nano + 1)]
            merges += [
                replace(event, my_payload=other),
                replace(event, exchange=event.exchange + 1),
            ]
            if event.offer is not None:
                offer = replace(event.offer, payload_hash=other)
                merges += [replace(event, offer=offer), replace(event, partner_seat=7)]
            return list(merges)
        case _:
            return []


@pytest.mark.rule("V62")
def test_attack_any_other_input_has_another_root_and_is_not_the_log_of_the_manifest() -> None:
    kinds = set[type[Event]]()
    for data in logs():
        manifest = manifest_of(data, NO_DIGEST, 1)
        assert is_of_log(manifest, data)
        for at, event in enumerate(data.events):
            for other in changed(event):
                kinds.add(type(event))
                events = (*data.events[:at], other, *data.events[at + 1 :])
                assert not is_of_log(manifest, dataclasses.replace(data, events=events))
        fewer = dataclasses.replace(data, events=data.events[:-1])
        if not isinstance(data.events[-1], Uncounted):
            assert not is_of_log(manifest, fewer)
    assert kinds == {StepTaken, FragmentMerged}


def test_what_changes_no_state_is_left_out() -> None:
    data = logs()[0]
    step = next(event for event in data.events if isinstance(event, StepTaken))
    more = dataclasses.replace(data, events=(Uncounted(step.microbatches), *data.events))
    assert InputTree(more).root == InputTree(data).root


def test_a_step_alone_takes_nothing_from_a_partner() -> None:
    merges = [e for data in logs() for e in InputTree(data).events if isinstance(e, MergeInputs)]
    solo = next(merge for merge in merges if merge.partner_seat == -1)
    assert (solo.partner_payload, solo.codec, solo.weight_nano) == (NO_DIGEST, None, 0)
    assert dropped_digest(()) != dropped_digest(((0, 0, 0),))
