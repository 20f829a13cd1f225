"""What a solver shows is what the ledger takes for its commit, and what honest replays of its logs give."""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest

from swarm.errors import InvalidStatement, Reason
from swarm.ledger.check_statements import (
    LEAVES_MAX,
    REVEAL_BYTES_MAX,
    TOKENS_MAX,
    RevealSegment,
    check_statement_shape,
)
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transactions import sign_transaction
from swarm.ledger.transition.checks import shown_claims
from swarm.node.seat.commits import commit_of
from swarm.primitives.codec import replace
from swarm.primitives.commitments import REFUSED, SALT_BYTES, WindowResult, trace_commit, trace_root
from swarm.primitives.crypto import fast_digest
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.replay import replay
from swarm.verify.transcript import COMPONENTS, reveal_of, state_root, window_results
from tests.ledger.checking import a_case
from tests.verify.lies import with_bit
from tests.verify.windows import TOKENS, Harvest, Segment, honest

PARTNER = PeerId(bytes(32))
SALT = bytes(range(SALT_BYTES))
WINDOW_STEPS = 3
RUN = RunIndex(1)


def some(name: str) -> Digest:
    return fast_digest("test", name.encode())


def a_state(name: str) -> tuple[Digest, ...]:
    return tuple(some(f"{name} {component}") for component in COMPONENTS)


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
    log = SegmentLog(StageIndex(1), 3, RoundIndex(9), a_state("start"))
    for step in range(num_steps):
        while rng.random() < 0.4:
            place = len(log.records)
            hashes = some("mine"), some("theirs")
            state = a_state(f"merge {place}")
            log.records.append(MergeRecord(place % 2, PARTNER, 6, *hashes, 500, state))
        components = a_state(f"step {step}") if step % WINDOW_STEPS == 0 else None
        if step == 0 and not log.records:
            components = log.start
        batches = [a_microbatch(step, number) for number in range(3)]
        rng.shuffle(batches)
        tokens = rng.randrange(1, 5000)
        dropped = ((1, step, 3), (0, step, 2))
        log.records.append(StepRecord(step, components, tuple(batches), dropped, tokens))
        log.tokens += tokens
    log.end = a_state("end")
    return log


def record_of(log: SegmentLog) -> SegmentRecord:
    """The record on the ledger of a log's honest commit."""
    commit = commit_of(log, RUN, 0, SALT)
    return replace(
        a_case().record,
        start_root=commit.start,
        end_root=commit.end_root,
        trace_commit=commit.trace_commit,
        num_steps=commit.num_steps,
        tokens=commit.tokens,
    )


@pytest.mark.parametrize("num_steps", [1, 3, 7, 9])
def test_the_ledger_takes_the_windows_that_were_trained(num_steps: int, seed: int) -> None:
    log = a_log(num_steps, random.Random(seed + num_steps))
    body, results = reveal_of(log, RUN, SALT), window_results(log)
    assert shown_claims(record_of(log), WINDOW_STEPS, body) == tuple(one.claim for one in results)
    check_statement_shape(body)
    begins = [one for one in log.records if isinstance(one, StepRecord) and one.components]
    assert len(results) == len(begins) == -(-num_steps // WINDOW_STEPS)
    assert body.state_roots == tuple(state_root(one.components or ()) for one in begins[1:])
    assert sum(body.tokens) == log.tokens
    steps = [one for one in log.records if isinstance(one, StepRecord)]
    for window, count in enumerate(body.tokens):
        own = [one.tokens for one in steps if one.step // WINDOW_STEPS == window]
        assert count == sum(own)


def test_the_largest_reveal_has_room_in_a_block() -> None:
    most = (1 << 31) - 1
    body = RevealSegment(
        run=RunIndex(most),
        round=RoundIndex(most),
        stage=StageIndex(255),
        seat=255,
        salt=bytes([255]) * SALT_BYTES,
        leaves_roots=(some("leaves"),) * LEAVES_MAX,
        state_roots=(some("state"),) * (LEAVES_MAX - 1),
        tokens=(TOKENS_MAX,) * LEAVES_MAX,
    )
    case = a_case()
    raw = sign_transaction(case.solver, case.ledger.state.chain, body)
    assert len(raw) <= REVEAL_BYTES_MAX


@pytest.mark.parametrize("num_steps", [3, 7])
def test_what_is_not_what_was_committed_to_is_not_taken(num_steps: int, seed: int) -> None:
    log = a_log(num_steps, random.Random(seed))
    record, body = record_of(log), reveal_of(log, RUN, SALT)
    last = len(body.tokens) - 1
    wrongs: list[dict[str, object]] = [
        {"salt": SALT[::-1]},
        {"leaves_roots": (*body.leaves_roots[:last], some("lie"))},
        {"tokens": (*body.tokens[:last], body.tokens[last] + 1)},
        {
            "leaves_roots": (*body.leaves_roots, some("more")),
            "state_roots": (*body.state_roots, some("more")),
            "tokens": (*body.tokens, 0),
        },
    ]
    if last:
        wrongs += [
            {"leaves_roots": body.leaves_roots[::-1]},
            {"state_roots": (some("lie"), *body.state_roots[1:])},
            {"tokens": (body.tokens[0] + 1, body.tokens[1] - 1, *body.tokens[2:])},
            {
                "leaves_roots": body.leaves_roots[:last],
                "state_roots": body.state_roots[: last - 1],
                "tokens": body.tokens[:last],
            },
        ]
    for changes in wrongs:
        with pytest.raises(InvalidStatement) as refused:
            shown_claims(record, WINDOW_STEPS, replace(body, **changes))
        assert refused.value.reason is Reason.BAD_PROOF
    for name in ("start_root", "end_root"):
        with pytest.raises(InvalidStatement):
            shown_claims(replace(record, **{name: some("lie")}), WINDOW_STEPS, body)


@pytest.mark.parametrize("more", [-1, 1])
def test_tokens_that_windows_do_not_have_cannot_be_paid(more: int, seed: int) -> None:
    """Its windows are those of its commit, and its commit claims other tokens than they have together."""
    log = a_log(7, random.Random(seed))
    record, body = record_of(log), reveal_of(log, RUN, SALT)
    with pytest.raises(InvalidStatement, match="tokens in its windows"):
        shown_claims(replace(record, tokens=record.tokens + more), WINDOW_STEPS, body)


# --- what solvers show of windows that can be replayed ---


def segments() -> Iterator[tuple[Harvest, Segment]]:
    crop = honest(2, "seq-f32/1")
    for segment in crop.segments.values():
        assert len(segment.windows) == 3
        yield crop, segment


def shown_with(segment: Segment, results: Sequence[WindowResult]) -> tuple[Digest, ...]:
    """Return the claims on the ledger of a solver that commits to these results and shows them."""
    record = replace(
        record_of(segment.log),
        trace_commit=trace_commit(trace_root([one.claim for one in results]), SALT),
    )
    for one, later in pairwise(results):
        assert one.end_root == later.start_root, "there is one state between two windows to show"
    body = replace(
        reveal_of(segment.log, RUN, SALT),
        leaves_roots=tuple(one.leaves_root for one in results),
        state_roots=tuple(one.start_root for one in results[1:]),
        tokens=tuple(one.tokens for one in results),
    )
    claims = shown_claims(record, segment.plan.spec.checks.window_steps, body)
    assert claims == tuple(one.claim for one in results)
    return claims


def test_what_trainers_show_is_what_replays_of_their_logs_say() -> None:
    """Leaves, states and tokens of every window."""
    for crop, segment in segments():
        replayed = [crop.answer(data) for data in segment.windows]
        assert REFUSED not in replayed
        body = reveal_of(segment.log, RUN, SALT)
        assert body.leaves_roots == tuple(found.leaves_root for found in replayed)
        assert body.state_roots == tuple(found.start_root for found in replayed[1:])
        assert body.state_roots == tuple(found.end_root for found in replayed[:-1])
        assert body.tokens == tuple(found.tokens for found in replayed)
        assert min(body.tokens) > 0
        assert sum(body.tokens) == segment.log.tokens
        window_steps = crop.spec.checks.window_steps
        claims = shown_claims(record_of(segment.log), window_steps, body)
        assert claims == tuple(found.claim for found in replayed)


@pytest.mark.rule("V10")
def test_tokens_moved_from_one_window_to_another_make_both_false() -> None:
    """The ledger sees the sum alone, which is right; a replay of either window sees the lie."""
    crop, segment = next(segments())
    true = segment.claims()
    moved = [
        replace(true[0], tokens=true[0].tokens + 1),
        replace(true[1], tokens=true[1].tokens - 1),
        true[2],
    ]
    claims = shown_with(segment, moved)
    replayed = [crop.answer(data).claim for data in segment.windows]
    assert [mine == said for mine, said in zip(replayed, claims, strict=True)] == [
        False,
        False,
        True,
    ]


@pytest.mark.rule("V10")
@pytest.mark.parametrize("between", [0, 1])
def test_a_state_between_two_windows_that_they_do_not_lead_to_makes_both_false(
    between: int,
) -> None:
    crop, segment = next(segments())
    bent = segment.claims()
    wrong = some("another state")
    bent[between] = replace(bent[between], end_root=wrong)
    bent[between + 1] = replace(bent[between + 1], start_root=wrong)
    claims = shown_with(segment, bent)
    replayed = [crop.answer(data).claim for data in segment.windows]
    false = {w for w, said in enumerate(claims) if replayed[w] != said}
    assert false == {between, between + 1}


@pytest.mark.rule("V10")
def test_a_solver_that_continues_from_another_state_is_found_in_the_window_before() -> None:
    """It signs a log from a better state than it had: that window is true, and the one before it is not."""
    crop, segment = next(segments())
    data = segment.windows[1]
    start = replace(data.start, params_P=with_bit(data.start.params_P, 40))
    jumped = replay(segment.plan, replace(data, start=start), TOKENS, crop.anchors[data.key.stage])
    true = segment.claims()
    said = [
        replace(true[0], end_root=jumped.start_root),
        jumped,
        replace(true[2], start_root=jumped.end_root),
    ]
    claims = shown_with(segment, said)
    assert jumped.start_root != true[1].start_root
    assert crop.answer(replace(data, start=start)).claim == claims[1]
    assert crop.answer(segment.windows[0]).claim != claims[0]
