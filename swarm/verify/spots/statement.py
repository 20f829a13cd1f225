"""Define what a solver states of a window before anybody knows where it is checked, and the traces in that.

Core: frozen messages and pure checks.

    SpotOpened     the account of a window, every event of it opened, the micro-batches and messages of its step
    TraceSaid      one program that was run in it, and the root over all its values
    SpotStatement  signed: the claim of the window, the digest of the first and the root over the second

A statement binds its solver, whatever it shows later: a value under one of its trace roots that its operator
does not compute is a proof against it, and so is a claim that is not the one on the ledger. One signature
covers all, so a proof has one trace with its path and none of the others.
Source: docs/spec/verification.md section 4.
"""

from typing import cast

from swarm.errors import BadEncoding, BrokenPromise
from swarm.gossip.trade.messages import Codec
from swarm.ledger.check_statements import LEAVES_MAX, SPOT_BYTES_MAX, check_seat, within
from swarm.primitives.codec import Message, decode, encode, replace
from swarm.primitives.crypto import SecretKey, fast_digest, verify
from swarm.primitives.merkle import merkle_proof, merkle_root, verify_proof
from swarm.training.messages import COUNT_MAX
from swarm.training.model.optimizer import MICROBATCHES_MAX
from swarm.training.record.window import EventHead, WindowKey
from swarm.types import Digest, PeerId, RoundIndex, RunIndex, StageIndex
from swarm.verify.program.account import Account
from swarm.verify.program.cases import Facts, microbatch_program_of, step_numbers, update_program_of
from swarm.verify.program.dispute import NO_ACCOUNT
from swarm.verify.program.events import (
    OpenAnchor,
    OpenCopy,
    OpenEnd,
    OpenMerge,
    check_codecs,
    copy_program_of,
    merge_program_of,
    numbers_of,
)
from swarm.verify.program.nodes import Program
from swarm.verify.program.opened import OpenMicrobatch, OpenStep

TRACES_MAX = 2 * MICROBATCHES_MAX
"""Traces of a window: one of each micro-batch, of an update, and of each copy and merge."""
OPENED_BYTES_MAX = 1 << 20
"""Bytes of an encoded ``SpotOpened``: about 700 of each micro-batch, and little else."""
STATEMENT_BYTES_MAX = SPOT_BYTES_MAX

Opened = OpenStep | OpenCopy | OpenMerge | OpenAnchor | OpenEnd


class SpotOpened(Message, frozen=True):
    """All events of a window, opened, in order; the account is there once."""

    account: Account
    events: tuple[Opened, ...]
    """Without their accounts, and without splits."""
    microbatches: tuple[OpenMicrobatch, ...]
    """Those that the step counts, without splits."""
    heads: tuple[EventHead, ...]
    """Events of the log: what others signed, without payloads."""

    @property
    def digest(self) -> Digest:
        """Digest that a statement has of it."""
        return fast_digest("spot-opened", encode(self))


class MicrobatchTrace(Message, frozen=True, tag=1):
    """The program of a micro-batch was run."""

    number: int
    """Number of the micro-batch in its step."""
    root: bytes


class UpdateTrace(Message, frozen=True, tag=2):
    """The program of an optimizer step was run."""

    step: int
    """Number within the segment."""
    seen: int
    microbatches: int
    root: bytes


class CopyTrace(Message, frozen=True, tag=3):
    """The program of the copy of a fragment was run."""

    event: int
    fragment: int
    root: bytes


class MergeTrace(Message, frozen=True, tag=4):
    """The program of the merge of a fragment was run."""

    event: int
    exchange: int
    due_nano: int
    codec: Codec | None
    my_codec: Codec | None
    moves_residual: bool
    root: bytes


TraceSaid = MicrobatchTrace | UpdateTrace | CopyTrace | MergeTrace


class SpotStatement(Message, frozen=True, tag=2):
    """Signed statement of a solver about one window of its segment; the tag is that among proofs (proof.py)."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    to: PeerId
    """Peer that it is for: what another was told says nothing about what this one found."""
    claim: Digest
    opened: Digest
    traces: Digest
    """Root over all traces, in order."""
    num_traces: int
    signature: bytes

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return WindowKey(self.run, self.round, self.stage, self.seat, self.window)

    @property
    def digest(self) -> Digest:
        """Digest that the answer of a verifier has of it."""
        return statement_digest(encode(self))


def statement_digest(raw: bytes) -> Digest:
    """Return the digest of an encoded statement."""
    return fast_digest("spot-statement", raw)


# --- what is signed ---


def sign_statement(
    secret: SecretKey,
    chain: Digest,
    run_digest: Digest,
    key: WindowKey,
    to: PeerId,
    claim: Digest,
    opened: SpotOpened,
    traces: tuple[TraceSaid, ...],
) -> SpotStatement:
    """Return this node's statement about a window of its own, for a peer."""
    where = (key.run, key.round, key.stage, key.seat, key.window)
    root = merkle_root(list(map(encode, traces)))
    unsigned = SpotStatement(*where, to, claim, opened.digest, root, len(traces), signature=b"")
    signature = secret.sign("spot", chain, run_digest, encode(unsigned))
    return replace(unsigned, signature=signature)


def check_statement(said: SpotStatement, peer: PeerId, chain: Digest, run_digest: Digest) -> None:
    """Raise ``PeerFault`` unless ``peer`` signed a statement, and its bounds hold."""
    check_seat(said.run, said.round, said.stage, said.seat)
    within("window", said.window, 0, LEAVES_MAX - 1)
    within("traces", said.num_traces, 1, TRACES_MAX)
    if any(len(part) != 32 for part in (said.to, said.claim, said.opened, said.traces)):
        raise BadEncoding("a hash that has not 32 bytes")
    unsigned = encode(replace(said, signature=b""))
    verify(peer, said.signature, "spot", chain, run_digest, unsigned)


def check_traces(said: SpotStatement, traces: tuple[TraceSaid, ...]) -> None:
    """Raise ``BrokenPromise`` unless these are all traces of a statement."""
    if len(traces) != said.num_traces or merkle_root(list(map(encode, traces))) != said.traces:
        raise BrokenPromise("other traces than those of the statement")


def trace_path(traces: tuple[TraceSaid, ...], at: int) -> tuple[bytes, ...]:
    """Return the path of one trace to the root over all."""
    return merkle_proof(list(map(encode, traces)), at)


def check_trace(said: SpotStatement, trace: TraceSaid, at: int, path: tuple[bytes, ...]) -> None:
    """Raise ``BrokenPromise`` unless a trace is this one of a statement."""
    verify_proof(said.traces, encode(trace), at, said.num_traces, path)


# --- programs ---


def program_of(facts: Facts, trace: TraceSaid) -> Program:
    """Return the program that a trace is of; raise ``PeerFault`` for one that the run does not have."""
    match trace:
        case MicrobatchTrace():
            return microbatch_program_of(facts.spec, facts.stage)
        case UpdateTrace(step, seen, microbatches):
            if not 1 <= microbatches <= MICROBATCHES_MAX:
                raise BadEncoding(f"a step of {microbatches} micro-batches")
            if not 0 <= step < facts.spec.inner_steps_max or not 0 <= seen <= COUNT_MAX:
                raise BadEncoding("a step that the run does not have")
            numbers = step_numbers(facts, step, seen, microbatches)
            return update_program_of(facts.spec, facts.stage, numbers)
        case CopyTrace(_, fragment):
            within("fragment", fragment, 0, facts.spec.outer.fragments - 1)
            return copy_program_of(facts.spec, facts.stage, fragment)
        case MergeTrace():
            within("exchange", trace.exchange, 0, facts.exchanges - 1)
            check_codecs(facts, trace)
            return merge_program_of(facts.spec, facts.stage, numbers_of(facts, trace))


def traces_of(facts: Facts, opened: SpotOpened, first_step: int) -> tuple[TraceSaid, ...]:
    """Return the traces that the opened events have; ``first_step``: number of the window's step."""
    found = list[TraceSaid]()
    for at, event in enumerate(opened.events):
        match event:
            case OpenStep():
                counted = event.microbatches
                found += [MicrobatchTrace(n, one.trace) for n, one in enumerate(counted)]
                found.append(UpdateTrace(first_step, event.seen, len(counted), event.update))
            case OpenCopy():
                fragment = facts.spec.outer.fragment_of(event.exchange)
                found.append(CopyTrace(at, fragment, event.trace))
            case OpenMerge():
                sides = (event.due_nano, event.codec, event.my_codec, event.moves_residual)
                found.append(MergeTrace(at, event.exchange, *sides, event.trace))
            case _:
                pass
    return tuple(found)


def bare(event: Opened) -> Opened:
    """Return an opened event without what a statement has elsewhere."""
    if isinstance(event, OpenCopy | OpenMerge):
        return replace(event, account=NO_ACCOUNT, hashes=())
    return replace(event, account=NO_ACCOUNT)


def decode_statement(raw: bytes) -> SpotStatement:
    """Decode a statement; raise ``BadEncoding``."""
    return decode(SpotStatement, raw, limit=STATEMENT_BYTES_MAX)


def decode_opened(raw: bytes) -> SpotOpened:
    """Decode what a statement has the digest of; raise ``BadEncoding``."""
    return decode(SpotOpened, raw, limit=OPENED_BYTES_MAX)


def decode_trace(raw: bytes) -> TraceSaid:
    """Decode one trace; raise ``BadEncoding``."""
    return decode(cast("type[TraceSaid]", TraceSaid), raw, limit=STATEMENT_BYTES_MAX)
