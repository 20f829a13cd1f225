"""What a solver shows is what the ledger takes for its commit, for any order of steps and merges."""

import random

import pytest

from swarm.errors import UsageError
from swarm.ledger.transactions import REVEAL_BYTES_MAX, TOKENS_COMPONENT
from swarm.ledger.transition.checks import check_tokens, open_windows, tokens_component
from swarm.node.seat.commits import commit_of
from swarm.primitives.codec import encode, replace
from swarm.primitives.commitments import window_claim
from swarm.primitives.crypto import fast_digest
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.transcript import COMPONENTS, reveal_of, segment_leaves, state_root
from tests.ledger.checking import a_case
from tests.verify.windows import honest

PARTNER = PeerId(bytes(32))
SALT = bytes(range(32))
WINDOW_STEPS = 3
FIELDS = ("start_root", "end_root", "trace_commit", "num_steps", "tokens")
START, END = (1000, 0, 500), (1000 + 4096, 3000, 4096)


def some(name: str) -> Digest:
    return fast_digest("test", name.encode())


def a_state(name: str, counts: tuple[int, ...] | None = None) -> tuple[Digest, ...]:
    parts = [some(f"{name} {component}") for component in COMPONENTS]
    if counts is not None:
        parts[TOKENS_COMPONENT] = tokens_component(counts)
    return tuple(parts)


def a_microbatch(step: int, number: int) -> MicrobatchRecord:
    name = f"{step}/{number}"
    a, b, c, d = (some(f"{name}{side}") for side in range(4))
    return MicrobatchRecord(
        origin=2,
        step=step,
        microbatch=number,
        in_activation=a,
        in_gradient=b,
        out_activation=c,
        out_gradient=d,
        source=4,
        destination=5,
        sample_ids_root=some(name),
    )


def a_log(num_steps: int, rng: random.Random) -> SegmentLog:
    log = SegmentLog(StageIndex(1), 3, RoundIndex(9), a_state("start", START), tokens=4096)
    for step in range(num_steps):
        while rng.random() < 0.4:
            place = len(log.records)
            hashes = some("mine"), some("theirs")
            state = a_state(f"merge {place}")
            log.records.append(MergeRecord(place % 2, PARTNER, 6, *hashes, 500, state))
        components = a_state(f"step {step}") if step % WINDOW_STEPS == 0 else None
        batches = [a_microbatch(step, number) for number in range(3)]
        rng.shuffle(batches)
        record = StepRecord(step, components, tuple(batches), ((1, step, 3), (0, step, 2)))
        log.records.append(record)
    log.end = a_state("end", END)
    return log


@pytest.mark.parametrize("num_steps", [1, 3, 7, 9])
def test_the_ledger_opens_the_windows_that_were_trained(num_steps: int, seed: int) -> None:
    log = a_log(num_steps, random.Random(seed + num_steps))
    commit = commit_of(log, RunIndex(1), 0, SALT)
    template = a_case().record
    record = replace(template, **{name: getattr(commit, name) for name in FIELDS})
    body = reveal_of(log, RunIndex(1), SALT, (START, END))
    assert len(encode(body)) <= REVEAL_BYTES_MAX
    windows = open_windows(record, WINDOW_STEPS, body)
    assert sum(window.num_leaves for window in windows) == len(segment_leaves(log))
    begins = [one for one in log.records if isinstance(one, StepRecord) and one.components]
    assert len(windows) == len(begins)
    for window, first in list(zip(windows, begins, strict=True))[1:]:
        assert window.start_root == state_root(first.components or ())
    check_tokens(record, len(START) - 1, body)


def test_what_trainers_show_is_what_replays_of_their_logs_say() -> None:
    crop, template = honest(2, "seq-f32/1"), a_case().record
    for (round_, stage, seat), segment in crop.segments.items():
        if (round_ + 1, stage, seat) not in crop.segments:
            continue
        later = crop.segments[round_ + 1, stage, seat].windows[0].start
        counts = tuple(
            (state.tokens_total, *state.tokens_at_sync)
            for state in (segment.windows[0].start, later)
        )
        commit = commit_of(segment.log, RunIndex(1), 0, SALT)
        record = replace(template, **{name: getattr(commit, name) for name in FIELDS})
        body = reveal_of(segment.log, RunIndex(1), SALT, (counts[0], counts[1]))
        check_tokens(record, crop.spec.outer.fragments, body)
        windows = open_windows(record, crop.spec.checks.window_steps, body)
        for window, data in zip(windows, segment.windows, strict=True):
            found = crop.answer(data)
            assert window.claim == window_claim(found.leaves, found.end_root)


def test_counts_of_another_state_cannot_be_shown() -> None:
    log = a_log(3, random.Random(0))
    for wrong in ((END, END), (START, START), (START[:2], END)):
        with pytest.raises(UsageError):
            reveal_of(log, RunIndex(1), SALT, wrong)
