"""Judge evidence with nothing but the file and its reader's trust in one genesis: what was said, what is true.

Core: pure functions; the replay computes.

    light proof --genesis, handoffs--> spec, roster, beacon, segment, canonical checkpoints
    manifest --solver's signature--> log --list, weights, text, each by its hash--> replay --> differs?

A part that is missing or wrong makes bad evidence, never a verdict: only a log that the solver signed, replayed
with what the ledger names, speaks against it.
"""

from dataclasses import dataclass

from torch import Tensor

from swarm.config.spec import RunSpec
from swarm.errors import BadConfig, BadEncoding, BrokenPromise, InvalidStatement
from swarm.ledger.check_statements import LEAVES_MAX, SHORT_MAX, check_seat, within
from swarm.ledger.light import TrustedEpoch, verify_entries
from swarm.ledger.state.records import (
    Checkpoint,
    Entry,
    RoundInfo,
    RunHead,
    RunPhase,
    SegmentRecord,
    StageSeats,
)
from swarm.ledger.state.state import State
from swarm.ledger.transition.disputes import UNREPORTABLE
from swarm.ledger.transition.phases import challenge_end, is_reportable_at
from swarm.ledger.transition.runs import check_run_spec
from swarm.ledger.transition.sampling import num_windows
from swarm.primitives.commitments import REFUSED, WindowResult, hash_of
from swarm.primitives.crypto import fast_digest
from swarm.primitives.edges import SentEntry
from swarm.training.data.dataset import TokenSource
from swarm.training.data.pieces import TokenPieces, check_pieces
from swarm.training.model.stages import init_flat, plans_of
from swarm.training.plan import RoundPlan
from swarm.training.record.checkpoint import decode_phi
from swarm.training.record.window import WindowData, WindowKey, anchors_named
from swarm.types import Bytes, Digest, Height, StageIndex
from swarm.verify.answers import key_of, seat_of
from swarm.verify.audit import AuditEvidence, AuditResult, judge_logs
from swarm.verify.edges import decode_list
from swarm.verify.evidence import Evidence, evidence_keys
from swarm.verify.manifest import check_manifest
from swarm.verify.program.account import answer_or_lie
from swarm.verify.replay import Committed, as_manifest_says, log_in
from swarm.verify.round_plan import round_plan


@dataclass(frozen=True, slots=True)
class Proved:
    """Facts that a file proves before anything is replayed."""

    network: Digest
    """Chain id of the network; whether that is the right one, only its reader can say."""
    founders: int
    """Validators of the genesis, in whom every proof begins."""
    height: Height
    """Height of the final block under which everything was proved."""
    run: RunHead
    plan: RoundPlan
    record: SegmentRecord
    key: WindowKey
    canonical: frozenset[Digest]
    """Roots of all checkpoints of the stage; its initial weights are canonical, too."""
    sent: tuple[SentEntry, ...]
    weights: dict[Digest, Tensor]
    """Canonical weights, and those below the adapter, by root."""

    @property
    def spec(self) -> RunSpec:
        """Specification of the run."""
        return self.run.spec


def prove(evidence: Evidence, trusted: TrustedEpoch | None = None) -> Proved:
    """Return what a file proves, with no step computed; raise ``PeerFault`` that names what does not hold.

    With a ``trusted`` epoch the validators that hand over are followed from there, not from the genesis.
    """
    manifest, key = evidence.manifest, evidence.key
    check_seat(*seat_of(key))
    within("window", key.window, 0, LEAVES_MAX - 1)
    for number in evidence.checkpoint_rounds:
        within("round of a checkpoint", number, 0, SHORT_MAX)
    run, info, record, checkpoints = _entries(evidence, trusted)
    chain = evidence.genesis.chain
    check_manifest(manifest, key, record.peer, chain, run.spec_digest)
    if len(evidence.log) > manifest.num_bytes:
        raise BrokenPromise("a log longer than its solver signed")
    check_pieces(run.spec.data, evidence.chunk_hashes, evidence.chunks)
    return Proved(
        network=chain,
        founders=len(evidence.genesis.validators),
        height=evidence.proof.outline.height,
        run=run,
        plan=round_plan(run, info, chain),
        record=record,
        key=key,
        canonical=frozenset(checkpoint.phi_root for checkpoint in checkpoints),
        sent=decode_list(bytes(evidence.sent), record.sent_root),
        weights=dict(_weights(run.spec, key.stage, one) for one in evidence.weights),
    )


def convince(evidence: Evidence, proved: Proved, tokens: TokenSource | None = None) -> AuditResult:
    """Replay the window and return the verdict.

    Args:
        evidence: The file.
        proved: What ``prove`` returned for it.
        tokens: The whole training text of the run; None to use the chunks in the file.

    Raises:
        PeerFault: The file is not whole: it has no log, or not the weights, that its replay needs.
        BadConfig: The text that the replay reads is neither in the file nor given.
    """
    result = _replayed(evidence, proved, tokens)
    record, run_digest = proved.record, proved.run.spec_digest
    found = AuditEvidence(proved.network, run_digest, record.peer, evidence.manifest, result)
    return judge_logs(record, proved.spec, proved.key, [found])


def stale(state: State, proved: Proved) -> str:
    """Return why a window can be reported no more, by the ledger of now; "" if it can."""
    key = proved.key
    run, now = state.find_run(key.run), state.segment(*seat_of(key))
    if run is None or run.spec_digest != proved.run.spec_digest:
        return "this network has no such run"
    if run.phase is RunPhase.SETTLED:
        return f"run {run.spec.name} is settled"
    if now is None:
        return "its challenge window has passed, and the ledger has forgotten the segment"
    return _stale_record(now, proved, state.height + 1)


def _stale_record(now: SegmentRecord, proved: Proved, height: int) -> str:
    said, window = proved.record, proved.key.window
    same = (now.peer, now.trace_commit, now.end_root)
    faults = (
        (same != (said.peer, said.trace_commit, said.end_root), "the ledger has another segment"),
        (now.phase in UNREPORTABLE, UNREPORTABLE.get(now.phase, "")),
        (window in now.judged, f"window {window} was judged already"),
        (
            not is_reportable_at(now, proved.spec, height),
            f"its challenge window passed at height {challenge_end(now, proved.spec)}",
        ),
    )
    return next((reason for is_stale, reason in faults if is_stale), "")


def _entries(
    evidence: Evidence, trusted: TrustedEpoch | None
) -> tuple[RunHead, RoundInfo, SegmentRecord, list[Checkpoint]]:
    """Return the proved entries; raise ``PeerFault`` unless they belong together."""
    key, rounds = evidence.key, evidence.checkpoint_rounds
    kinds: list[type[Entry]] = [RunHead, RoundInfo, SegmentRecord, StageSeats]
    kinds += [Checkpoint] * len(rounds)
    expected = list(zip(evidence_keys(key, rounds), kinds, strict=True))
    run, info, record, seats, *kept = verify_entries(
        evidence.genesis, evidence.proof, expected, trusted
    )
    assert isinstance(run, RunHead)
    assert isinstance(info, RoundInfo)
    assert isinstance(record, SegmentRecord)
    assert isinstance(seats, StageSeats)
    checkpoints = [one for one in kept if isinstance(one, Checkpoint)]
    if seats.checkpoint_rounds != rounds:
        raise BrokenPromise("not all checkpoints of the stage")
    _check_run(run, info, record, key)
    return run, info, record, checkpoints


def _check_run(run: RunHead, info: RoundInfo, record: SegmentRecord, key: WindowKey) -> None:
    """Raise ``PeerFault`` unless validators that follow the rules could have such entries."""
    try:
        check_run_spec(run.spec)
    except InvalidStatement as error:
        raise BadEncoding(f"a run that no ledger accepts: {error}") from None
    spec = run.spec
    if not spec.is_exact:
        raise BrokenPromise("a run with native numerics: honest machines differ")
    if run.index != key.run or run.spec_digest != spec.digest or info.round != key.round:
        raise BrokenPromise("entries of another run or round")
    if len(info.seats) != spec.num_stages or key.stage >= spec.num_stages:
        raise BrokenPromise("a round of another number of stages")
    if key_of(record) != seat_of(key) or not 0 <= record.num_steps <= LEAVES_MAX:
        raise BrokenPromise("a segment of another seat")
    windows = num_windows(record.num_steps, spec.checks.window_steps)
    if key.window >= windows or len(record.claims) not in {0, windows}:
        raise BrokenPromise(f"window {key.window} of a segment of {windows}")


def _weights(spec: RunSpec, stage: StageIndex, raw: Bytes) -> tuple[Digest, Tensor]:
    """Return the name of weights of a stage and their values, which are finite and as many as it has."""
    plan = plans_of(spec)[stage]
    numels = {plan.num_parameters} | ({plan.base.num_parameters} if plan.base else set())
    for numel in numels:
        if len(raw) == 4 * numel:
            found = decode_phi(raw if isinstance(raw, memoryview) else bytes(raw), numel)
            return hash_of(found), found
    raise BrokenPromise(f"weights of {len(raw)} bytes, which stage {stage} does not have")


def _replayed(evidence: Evidence, proved: Proved, tokens: TokenSource | None) -> WindowResult:
    spec, stage, record = proved.spec, proved.key.stage, proved.record
    data = log_in(evidence.log, evidence.manifest, spec)
    if data is None:
        return REFUSED
    initial = _Initial(spec, stage)
    committed = Committed(record.start_root, record.num_steps, record.incarnation, proved.sent)
    if tokens is None:
        tokens = TokenPieces(spec.data, evidence.chunks)
    anchors, base_W = _anchors(proved, data, initial), _base(proved)
    try:
        marker = fast_digest("unlike-log", evidence.manifest.root)
        found = answer_or_lie(committed, proved.plan, data, tokens, anchors, base_W, marker)
        return as_manifest_says(evidence.manifest, found)
    except BadConfig as error:
        root = spec.data.train_root.hex()
        raise BadConfig(
            f"{error}: the text of the run has the hash {root}",
            hint="swarm verify-evidence FILE --data TRAIN.BIN",
        ) from None


class _Initial:
    """Weights that a stage begins with, drawn from the seed when they are asked for."""

    def __init__(self, spec: RunSpec, stage: StageIndex) -> None:
        self._spec, self._stage = spec, stage
        self._drawn: Tensor | None = None

    @property
    def root(self) -> Digest:
        """Hash of the weights."""
        return self._spec.starts[self._stage].weights

    @property
    def drawn(self) -> Tensor:
        """The weights, of a run that draws them."""
        if self._drawn is None:
            self._drawn = init_flat(plans_of(self._spec)[self._stage], self._spec.seed)
        return self._drawn


def _anchors(proved: Proved, data: WindowData, initial: _Initial) -> dict[Digest, Tensor]:
    """Return the canonical ones among the anchors that a log names; the replay refuses any other."""
    found = dict[Digest, Tensor]()
    for root in sorted(anchors_named(data)):
        is_checkpoint = root in proved.canonical
        if not is_checkpoint and root != initial.root:
            continue
        if root in proved.weights:
            found[root] = proved.weights[root]
        elif not proved.spec.is_pretrained and root == initial.root:
            found[root] = initial.drawn
        else:
            raise BrokenPromise(f"without the checkpoint {root.hex()[:16]} that the window needs")
        if found[root].numel() != plans_of(proved.spec)[proved.key.stage].num_parameters:
            raise BrokenPromise("a checkpoint of another length than the stage's")
    return found


def _base(proved: Proved) -> Tensor | None:
    """Return the weights below the adapter; None in a run without one."""
    spec, stage = proved.spec, proved.key.stage
    if not spec.adapter.rank:
        return None
    root = spec.adapter.base_roots[stage]
    if root not in proved.weights:
        raise BrokenPromise("without the weights below the adapter of the run")
    return proved.weights[root]
