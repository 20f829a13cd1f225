"""A ledger on which real segments stand, and the evidence about their windows: nothing in it is looked up."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from swarm.config.spec import RunSpec
from swarm.errors import PeerFault
from swarm.ledger.light import LightProof, prove_entries
from swarm.ledger.state.draft import Draft
from swarm.ledger.state.records import (
    Checkpoint,
    Entry,
    RoundInfo,
    Run,
    Seat,
    SegmentPhase,
    SegmentRecord,
    StartKind,
)
from swarm.ledger.state.runs import changed_entries, round_key
from swarm.ledger.state.state import State
from swarm.primitives.codec import replace
from swarm.primitives.commitments import WindowResult, tensor_hash
from swarm.primitives.crypto import SecretKey, digest
from swarm.primitives.edges import sent_root
from swarm.testing.ledger import InMemoryLedger, forget_blocks, small_run_spec
from swarm.training.record.checkpoint import phi_bytes
from swarm.training.record.window import (
    WindowData,
    anchors_named,
)
from swarm.training.record.window_bytes import (
    encode_window,
)
from swarm.types import NO_DIGEST, Amount, Digest, Height, PeerId, RoundIndex, StageIndex
from swarm.verify.answers import window_of
from swarm.verify.audit import AuditResult
from swarm.verify.edges import encode_list
from swarm.verify.evidence import Evidence, encode_evidence_file, evidence_keys, read_evidence
from swarm.verify.evidence_check import convince, prove
from swarm.verify.manifest import WindowManifest, manifest_of, sign_manifest
from swarm.verify.replay import Committed
from swarm.verify.replay_process import Log, Material
from swarm.verify.transcript import state_root
from tests.training.pipeline import TEXT
from tests.verify.windows import TOKENS, Field, Harvest, SeatId, Segment, base_of, harvest, spec_of

ROUND = RoundIndex(1)
SEAT: SeatId = (1, 0)
"""Seat whose segment is shown: of the last stage, which reads text, with gradients for the one below."""
LIE = 1
"""Window that the liar lies about."""


def exact_spec(*, rank: int = 0) -> RunSpec:
    """The spec of the run, which names its text."""
    spec = spec_of(2, "seq-f32/1", rank=rank)
    root = tensor_hash("uint8", (len(TEXT),), TEXT)
    return replace(spec, data=replace(spec.data, train_root=root))


@dataclass
class Proofs:
    """Proofs of a ledger in memory: ``swarm.ledger.reader.Ledger``, whose every block is final."""

    ledger: InMemoryLedger

    @property
    def proved_height(self) -> int:
        return self.ledger.state.height

    def prove_from(self, keys_of: Callable[[State], Sequence[bytes]]) -> LightProof:
        block, certificate = self.ledger.links[-1]
        state = self.ledger.state
        return prove_entries(state, block.header, certificate, [], keys_of(state))


@dataclass
class World:
    """A ledger with one run of two stages, and what its seats left behind."""

    ledger: InMemoryLedger
    crop: Harvest
    run: Run

    @property
    def state(self) -> State:
        return self.ledger.state

    @property
    def solver(self) -> SecretKey:
        return self.crop.secrets[SEAT]

    @property
    def segment(self) -> Segment:
        return self.crop.segments[ROUND, *SEAT]

    @property
    def info(self) -> RoundInfo:
        return self.run.rounds[-1]

    def record(self, **changes: object) -> SegmentRecord:
        """The honest segment, revealed, with ``changes``."""
        log, (stage, index) = self.segment.log, SEAT
        claims = self.segment.claims()
        honest = SegmentRecord(
            run=self.run.index,
            round=ROUND,
            stage=StageIndex(stage),
            seat=index,
            peer=self.solver.peer,
            incarnation=1 + index,
            start_kind=StartKind.CONTINUED,
            start_root=state_root(log.start),
            end_root=claims[-1].end_root,
            trace_commit=digest("trace", b""),
            sent_root=sent_root(log.sent),
            num_steps=log.num_steps,
            tokens=log.tokens,
            height=self.state.height,
            reward=Amount(0),
            held=Amount(0),
            check_pay=Amount(0),
            reserved=Amount(0),
            is_volunteer=False,
            probability_nano=0,
            is_paid=False,
            phase=SegmentPhase.VERIFIED,
            due=Height(600),
            partners=(),
            draws=(),
            checks=(),
            contests=(),
            shown_height=self.state.height,
            reveals_end=Height(0),
            claims=tuple(claim.claim for claim in claims),
            accusations=(),
            dispute=None,
            judged=(),
        )
        return replace(honest, **changes)

    def lying(self, window: int = LIE) -> SegmentRecord:
        """The segment whose solver has shown something else of one window than its log gives."""
        claims = self.segment.claims()
        false = replace(claims[window], leaves_root=digest("lie", b""))
        shown = [false if number == window else one for number, one in enumerate(claims)]
        return self.record(claims=tuple(one.claim for one in shown))

    def commit(self, record: SegmentRecord) -> None:
        """Let the ledger have a segment, and make a final block on it."""
        draft = Draft(self.state, self.ledger.keys[0].peer)
        draft.put_segment(record)
        self.put(dict(draft.finish().entries.items()))

    def put(self, entries: dict[bytes, Entry | None]) -> None:
        """Write entries into the state, and make a final block on it."""
        state = State(self.state.entries.update(entries))
        self.ledger.head = dataclasses.replace(self.ledger.head, state=state)
        forget_blocks()  # they follow from their parents, and not from what was put in
        self.ledger.block()

    def manifest(
        self,
        data: WindowData,
        root: Digest,
        num_bytes: int,
        record: SegmentRecord,
        window: int,
        signer: SecretKey | None = None,
    ) -> WindowManifest:
        """What the solver signs of a log, or of other bytes in its place."""
        run, round_, stage, seat, number = dataclasses.astuple(window_of(record, window))
        named = {"run": run, "round": round_, "stage": stage, "seat": seat, "window": number}
        unsigned = replace(manifest_of(data, root, num_bytes), **named)
        where = (self.state.chain, self.run.spec_digest)
        return sign_manifest(signer or self.solver, *where, unsigned)

    def material(self, folder: Path, window: int = LIE) -> Material:
        """What a node has fetched to replay a window, its log in a file."""
        segment, (stage, index) = self.segment, SEAT
        record, raw = self.record(), b"".join(encode_window(segment.windows[window]))
        path = folder / "log"
        path.write_bytes(raw)
        root = tensor_hash("uint8", (len(raw),), raw)
        manifest = self.manifest(self.segment.windows[window], root, len(raw), record, window)
        committed = Committed(record.start_root, record.num_steps, 1 + index, segment.log.sent)
        log = Log(path, manifest, segment.plan, committed)
        named = anchors_named(segment.windows[window])
        anchors = {root: self.crop.anchors[stage][root] for root in named}
        return Material(log, TOKENS, anchors, None)

    def shown(
        self,
        record: SegmentRecord,
        *,
        window: int = LIE,
        log: bytes | None = None,
        signer: SecretKey | None = None,
    ) -> Evidence:
        """The evidence about a window of a record, which is put on the ledger; ``log``: another than honest."""
        key = window_of(record, window)
        self.commit(record)
        rounds = tuple(one.round for one in self.run.checkpoints[record.stage])
        block, certificate = self.ledger.links[-1]
        keys = evidence_keys(key, rounds)
        raw = b"".join(encode_window(self.segment.windows[window])) if log is None else log
        root = tensor_hash("uint8", (len(raw),), raw)
        names = {checkpoint.phi_root for checkpoint in self.run.checkpoints[record.stage]}
        anchors, base_W = self.crop.anchors[record.stage], base_of(self.crop.spec, record.stage)
        weights = [anchors[name] for name in sorted(names)]
        weights += [] if base_W is None else [base_W]
        return Evidence(
            genesis=self.ledger.genesis,
            manifest=self.manifest(
                self.segment.windows[window], root, len(raw), record, window, signer
            ),
            checkpoint_rounds=rounds,
            proof=prove_entries(self.state, block.header, certificate, [], keys),
            log=raw,
            sent=encode_list(self.segment.log.sent),
            weights=tuple(bytes(phi_bytes(one)) for one in weights),
            chunk_hashes=b"",
            chunks={0: TEXT},
        )


@cache
def _crop(chain: Digest, rank: int) -> Harvest:
    def on_chain(swarm: Field) -> None:
        swarm.plan = replace(swarm.plan, chain=chain)

    return harvest(exact_spec(rank=rank), prepare=on_chain)


def a_world(*, rank: int = 0) -> World:
    """A fresh ledger with the run, with a rank of an adapter; ``World.shown`` puts the segment there."""
    ledger = InMemoryLedger(num_validators=4)
    crop = _crop(ledger.genesis.chain, rank)
    spec, plan = crop.spec, crop.segments[ROUND, 0, 0].plan
    like = InMemoryLedger().open_run(small_run_spec())
    seats = tuple(
        tuple(_seat(stage, seat.index, seat.peer) for seat in roster)
        for stage, roster in enumerate(plan.rosters)
    )
    info = RoundInfo(ROUND, Height(1), plan.beacon, seats, (0, 0), -1, 0)
    checkpoints = tuple(
        (
            Checkpoint(
                round=ROUND,
                phi_root=list(crop.anchors[stage])[-1],
                phi_bytes=4,
                peer=seats[stage][0].peer,
                seat=0,
                height=Height(1),
                is_void=False,
            ),
        )
        for stage in range(spec.num_stages)
    )
    changes = {
        "index": plan.run,
        "spec": spec,
        "spec_digest": spec.digest,
        "seats": seats,
        "rounds": (info,),
        "checkpoints": checkpoints,
    }
    world = World(ledger, crop, replace(like, **changes))
    entries = {**changed_entries(None, world.run), round_key(world.run.index, ROUND): info}
    world.put(entries)
    return world


def _seat(stage: int, index: int, peer: PeerId) -> Seat:
    return Seat(
        stage=StageIndex(stage),
        index=index,
        peer=peer,
        joined_round=RoundIndex(0),
        last_commit_round=0,
        last_end_root=NO_DIGEST,
        last_tokens=0,
        last_verified_round=-1,
        is_volunteer=False,
        is_on_trial=False,
        ask=0,
        seated_ask=0,
    )


def file_of(evidence: Evidence) -> bytes:
    """The bytes of its file."""
    return b"".join(encode_evidence_file(evidence))


def reader(raw: bytes) -> Callable[[int], bytes]:
    """The bytes of a file, one piece after another."""
    view, at = memoryview(raw), 0

    def read(count: int) -> bytes:
        nonlocal at
        at += count
        return bytes(view[at - count : at])

    return read


def judged(raw: bytes) -> AuditResult | None:
    """What a stranger finds in a file; None if it is refused."""
    try:
        evidence = read_evidence(reader(raw))
        return convince(evidence, prove(evidence))
    except PeerFault:
        return None


def result_of(world: World, window: int = LIE) -> WindowResult:
    """What the honest log of a window gives."""
    return world.segment.claims()[window]
