"""What a solver shows of a segment: its leaves, where its windows begin, the tokens it is paid for.

Core: a pure function of the log that training wrote.
"""

from collections.abc import Sequence

from swarm.errors import UsageError
from swarm.leaves import leaves_root
from swarm.ledger.check_statements import Opening, RevealSegment, TokensOpening
from swarm.ledger.fields import TOKENS_COMPONENT
from swarm.ledger.windows import tokens_component
from swarm.training.segment import SegmentLog, StepRecord
from swarm.types import Digest, RunIndex
from swarm.verify.transcript import component_proof, microbatch_leaf, segment_leaves, state_root

Counts = tuple[int, ...]
"""Tokens of a state: the total, then the total at each fragment's last merge."""


def reveal_of(
    log: SegmentLog, run: RunIndex, salt: bytes, counts: tuple[Counts, Counts]
) -> RevealSegment:
    """The statement that opens a closed segment; ``salt`` is that of its commit.

    ``counts`` are the tokens at its start and at its end. Raises ``UsageError`` if they are not those that the
    log's states have: nobody could show such a segment.
    """
    openings = [
        _opening(leaf, record, record.components)
        for leaf, record in enumerate(log.records)
        if isinstance(record, StepRecord) and record.components is not None
    ]
    tokens = _tokens(log.start, counts[0]), _tokens(log.end, counts[1])
    leaves = tuple(segment_leaves(log))
    place = (run, log.round, log.stage, log.seat)
    return RevealSegment(*place, salt, leaves, tuple(openings), tokens)


def _opening(leaf: int, record: StepRecord, components: Sequence[Digest]) -> Opening:
    """What ``transcript.step_leaf`` hashes."""
    microbatches = sorted((one.place, microbatch_leaf(one)) for one in record.microbatches)
    root = leaves_root([digest for _, digest in microbatches])
    dropped = tuple(sorted(record.dropped))
    return Opening(leaf, record.step, dropped, state_root(components), root)


def _tokens(components: Sequence[Digest], counts: Counts) -> TokensOpening:
    if tokens_component(counts) != components[TOKENS_COMPONENT]:
        raise UsageError(f"a state that has not seen {counts[0]} tokens")
    return TokensOpening(counts, component_proof(components, TOKENS_COMPONENT))
