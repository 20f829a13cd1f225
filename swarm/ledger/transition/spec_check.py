"""Bound the run specs that the ledger accepts from untrusted peers.

Core: the bounds of every spec, those that only the ledger's fields need, and the size of a run's history.
"""

from swarm.config.bounds import check_spec
from swarm.config.spec import RunSpec
from swarm.errors import BadConfig, InvalidStatement, Reason
from swarm.ledger.transactions import (
    COMPONENT_PROOF_DEPTH,
    LEAVES_MAX,
    REVEAL_BYTES_MAX,
    SHORT_MAX,
    TOKENS_MAX,
)
from swarm.ledger.transition.phases import COMMIT_ROUNDS, DISPUTE_ROUNDS, REPORTS_MAX, REVEAL_ROUNDS
from swarm.ledger.transition.sampling import num_windows

NAME_LENGTH_MAX = 64
"""Letters of a name shown to people, however long an untrusted one is."""
SEATS_MAX = 1024
"""Stages times replicas: a run's entry stays under half a megabyte with four rosters."""

HASH_BYTES = 34
"""Bytes of an encoded hash."""

OPENING_BYTES = 80
"""Bytes of an encoded opening whose step dropped nothing."""

COUNT_BYTES_MAX = 9
"""Bytes of an encoded count of tokens."""

ROUND_SEATS_MAX = 1 << 14
"""Seats of all rounds that are kept at once: 2 MB of rosters for each run."""

CHECKPOINTS_MAX = 1 << 11
"""Checkpoints of all stages: they are a part of the run's entry, a quarter of a megabyte of it."""

JUDGING_ROUNDS = REVEAL_ROUNDS + REPORTS_MAX * DISPUTE_ROUNDS
"""Rounds after the challenge window until the last report that came within it is judged."""

REVEAL_SPARE_BYTES = 4 << 10
"""Bytes of a reveal reserved for the envelope, and for dropped micro-batches."""

ROUNDS_MAX = SHORT_MAX - 16
"""Most rounds of a run: leaves room for the boundaries after the last round in a 16-bit field."""


def check_run_spec(spec: RunSpec) -> None:
    """Raise ``InvalidStatement`` naming the first field that is out of bounds."""
    try:
        check_spec(spec)
    except BadConfig as error:
        raise InvalidStatement(Reason.BAD_FIELD, str(error)) from None
    faults = (
        (
            spec.num_stages * spec.replicas_max > SEATS_MAX,
            f"{spec.num_stages} stages of {spec.replicas_max} are more than {SEATS_MAX} seats",
        ),
        (spec.rounds > ROUNDS_MAX, f"rounds {spec.rounds} is above {ROUNDS_MAX}"),
        (
            segment_tokens_max(spec, spec.replicas_max) > TOKENS_MAX,
            "a segment could hold more tokens than its commit can count",
        ),
        (
            leaves_max(spec) > LEAVES_MAX,
            f"a segment of {leaves_max(spec)} steps and merges cannot show more than {LEAVES_MAX}",
        ),
        (
            reveal_bytes_max(spec) > REVEAL_BYTES_MAX,
            f"a segment would need {reveal_bytes_max(spec)} bytes to show its windows; use longer ones",
        ),
        (
            rounds_kept(spec) * spec.num_stages * spec.replicas_max > ROUND_SEATS_MAX,
            f"a challenge window of {rounds_kept(spec)} rounds: use longer rounds or a shorter window",
        ),
        (
            checkpoints_kept(spec) * spec.num_stages > CHECKPOINTS_MAX,
            f"{checkpoints_kept(spec)} checkpoints a stage in a challenge window: make fewer",
        ),
    )
    for is_wrong, fault in faults:
        if is_wrong:
            raise InvalidStatement(Reason.BAD_FIELD, fault)


def leaves_max(spec: RunSpec) -> int:
    """Return the most leaves of one segment: its steps, and a merge per fragment."""
    return spec.inner_steps_max + spec.outer.fragments


def reveal_bytes_max(spec: RunSpec) -> int:
    """Return the most bytes with which a segment reveals its leaves and the openings of its windows."""
    windows = num_windows(spec.inner_steps_max, spec.checks.window_steps)
    tokens = HASH_BYTES * COMPONENT_PROOF_DEPTH + COUNT_BYTES_MAX * (1 + spec.outer.fragments)
    shown = HASH_BYTES * leaves_max(spec) + OPENING_BYTES * windows + 2 * tokens
    return REVEAL_SPARE_BYTES + shown


def segment_tokens_max(spec: RunSpec, num_origins: int) -> int:
    """Return the most tokens of one segment of a seat that ``num_origins`` seats feed."""
    step = spec.microbatches_per_step * spec.microbatch_size * spec.model.seq_len
    return spec.inner_steps_max * step * max(num_origins, 1)


def rounds_kept(spec: RunSpec) -> int:
    """Return the number of rounds of which a segment can be committed or checked at one time."""
    window = -(-spec.checks.challenge_window_blocks // spec.round_blocks)
    return 1 + COMMIT_ROUNDS + window


def checkpoints_kept(spec: RunSpec) -> int:
    """Return the number of canonical checkpoints of a stage that stay listed.

    A checkpoint that was canonical at the boundary of a round is listed as long as a segment of that round can
    be in dispute, and so is the one before it: a peer may be late by one. One more is drawn at the end of the
    run.
    """
    boundaries = rounds_kept(spec) + 1 + JUDGING_ROUNDS
    return -(-boundaries // spec.checkpoint_rounds) + 3
