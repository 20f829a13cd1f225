"""A segment to be checked, and what its solver and its verifiers would say, for tests and simulations.

Core: pure functions on a rehearsal. The leaves are made up, but they hash to their commit as real ones do.
"""

from dataclasses import dataclass, replace

from swarm.codec import encode
from swarm.codec import replace as changed
from swarm.crypto import SecretKey, digest
from swarm.errors import UsageError
from swarm.leaves import step_leaf_digest, trace_commit, trace_root, verify_commit
from swarm.ledger.check_statements import (
    DataRequest,
    DisputeVote,
    Opening,
    Report,
    RevealSegment,
    TokensOpening,
    VerifyCommit,
    VerifyReveal,
)
from swarm.ledger.fields import STATE_COMPONENTS, TOKENS_COMPONENT
from swarm.ledger.records import Run, SegmentRecord
from swarm.ledger.rehearsal import Rehearsal
from swarm.ledger.sampling import check_eligible, drawn_window, prove_draw
from swarm.ledger.state import State
from swarm.ledger.transactions import CommitSegment
from swarm.ledger.windows import tokens_component
from swarm.merkle import merkle_proof, merkle_root
from swarm.types import NO_DIGEST, Digest, PeerId

SALT = bytes(range(32))


@dataclass(frozen=True)
class RehearsedSegment:
    """What a solver knows about one of its segments."""

    commit: CommitSegment
    leaves: tuple[Digest, ...]
    openings: tuple[Opening, ...]
    tokens: tuple[TokensOpening, TokensOpening]

    def reveal(self, **changes: object) -> RevealSegment:
        """What the solver shows."""
        c = self.commit
        shown = SALT, self.leaves, self.openings, self.tokens
        return changed(RevealSegment(c.run, c.round, c.stage, c.seat, *shown), **changes)

    def window(self, index: int) -> tuple[tuple[Digest, ...], Digest]:
        """Leaves and end root of a window."""
        bounds = [0, *(opening.leaf for opening in self.openings[1:]), len(self.leaves)]
        ends = [*(opening.state_root for opening in self.openings[1:]), self.commit.end_root]
        return self.leaves[bounds[index] : bounds[index + 1]], ends[index]

    def with_lie(self, window: int) -> "RehearsedSegment":
        """The same segment, but for one leaf of a window."""
        bounds = [*(opening.leaf for opening in self.openings), len(self.leaves)]
        wrong = bounds[window + 1] - 1
        leaves = list(self.leaves)
        leaves[wrong] = digest("lie", leaves[wrong])
        commit = changed(self.commit, trace_commit=trace_commit(trace_root(leaves), SALT))
        return replace(self, commit=commit, leaves=tuple(leaves))

    def record(self, state: State) -> SegmentRecord:
        """What the ledger holds; raise ``UsageError`` if it has forgotten, or not heard."""
        c = self.commit
        found = state.segment(c.run, c.round, c.stage, c.seat)
        if found is None:
            raise UsageError("this segment is not on the ledger")
        return found

    def request(self, state: State, key: SecretKey, attempt: int = 0) -> DataRequest | None:
        """A verifier's request, if the dice drew it; raises ``InvalidStatement`` if it is not eligible."""
        record = self.record(state)
        check_eligible(state, record, key.peer)
        draw, spec = record.draws[attempt], state.run(record.run).spec
        proof = prove_draw(key, state.chain, draw, record)
        window = drawn_window(state.chain, draw, record, spec, key.peer, proof)
        if window is None:
            return None
        c = self.commit
        return DataRequest(c.run, c.round, c.stage, c.seat, attempt, window, proof)

    def answer(self, peer: PeerId, window: int) -> tuple[VerifyCommit, VerifyReveal]:
        """What a verifier whose replay gives these leaves says, first blind and then openly."""
        c, salt = self.commit, digest("verifier-salt", peer)
        leaves, end = self.window(window)
        blind = verify_commit(leaves, end, salt, peer)
        return (
            VerifyCommit(c.run, c.round, c.stage, c.seat, blind),
            VerifyReveal(c.run, c.round, c.stage, c.seat, salt, leaves, end),
        )

    def vote(self, window: int, *, is_guilty: bool) -> DisputeVote:
        """A validator's verdict."""
        c = self.commit
        return DisputeVote(c.run, c.round, c.stage, c.seat, window, is_guilty=is_guilty)

    def report(self, window: int) -> Report:
        """What a whistleblower says whose replay gives these leaves."""
        c = self.commit
        return Report(c.run, c.round, c.stage, c.seat, window, *self.window(window))


def rehearse_segment(
    stage: Rehearsal, run: Run, round_: int, stage_index: int, seat: int, **changes: object
) -> RehearsedSegment:
    """A segment that a seat could commit: its steps, a merge before the first and one in between.

    It goes on from the seat's last rehearsed segment, or from a state that nobody has committed.
    """
    commit = stage.commit(run, round_, stage_index, seat, **changes)
    name = encode((commit.run, commit.round, commit.stage, commit.seat))
    leaves, openings = [digest("merge", name)], list[Opening]()
    for step in range(commit.num_steps):
        mark = name + bytes([step])
        is_first = step % run.spec.checks.window_steps == 0
        root = digest("state", mark) if is_first else NO_DIGEST
        if is_first:
            openings.append(Opening(len(leaves), step, ((0, step, 1),), root, digest("mb", mark)))
        leaves.append(step_leaf_digest(step, ((0, step, 1),), root, digest("mb", mark)))
        if step == commit.num_steps // 2:
            leaves.append(digest("merge", mark))
    fragments, first = run.spec.outer.fragments, (commit.start_root, 0)
    origin, total = stage.ends.get(commit.start_root, first)
    start_root, start = rehearse_tokens(origin, total, fragments)
    total += commit.tokens
    end_root, end = rehearse_tokens(commit.end_root, total, fragments)
    stage.ends[end_root] = commit.end_root, total
    hidden = trace_commit(trace_root(leaves), SALT)
    roots = {"start_root": start_root, "end_root": end_root, "trace_commit": hidden}
    return RehearsedSegment(changed(commit, **roots), tuple(leaves), tuple(openings), (start, end))


def rehearse_tokens(name: bytes, total: int, fragments: int) -> tuple[Digest, TokensOpening]:
    """The root of a made-up state in which a seat has seen so many tokens, and its opening."""
    counts = (total, *[0] * fragments)
    components = [digest("component", name, bytes([i])) for i in range(STATE_COMPONENTS)]
    components[TOKENS_COMPONENT] = tokens_component(counts)
    proof = merkle_proof(components, TOKENS_COMPONENT)
    return merkle_root(components), TokensOpening(counts, proof)
