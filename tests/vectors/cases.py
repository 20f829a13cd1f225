"""The golden vectors of every format that leaves the process, built from fixed inputs.

``scripts/make_vectors`` writes them; ``test_vectors.py`` builds them again and compares.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from dataclasses import replace as changed

import torch

from swarm.dht.directory import Announcement
from swarm.dht.records import record_key, sign_record
from swarm.gossip.blobs.chunks import blob_manifest, blob_root
from swarm.gossip.codecs.activations import FORMS, to_wire
from swarm.gossip.trade.messages import (
    BlobChunksRequest,
    BlobFound,
    BlobMissing,
    ChunkRequest,
    Chunks,
    Codec,
    FirstChunks,
    FragmentKey,
    ManifestRequest,
    NotYet,
    Offered,
    OfferRequest,
    Receipt,
    Taken,
    fragment_digest,
    sign_offer,
    sign_receipt,
)
from swarm.gossip.trade.payload import FragmentPayload, pack
from swarm.host.handshake import Hello
from swarm.ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    VOTE_PURPOSES,
    Block,
    Certificate,
    Header,
    Validator,
    ValidatorSet,
    block_digest,
    body_root,
    next_beacon,
    validators_digest,
    vote_parts,
    vrf_alpha,
)
from swarm.ledger.chain_file import ChainStart
from swarm.ledger.check_statements import (
    ContestService,
    DataRequest,
    DisputeMove,
    ForcedError,
    Report,
    RevealSegment,
    TraceFraud,
    VerifyCommit,
    VerifyReveal,
    WitnessService,
)
from swarm.ledger.consensus.votes import (
    Batch,
    Heard,
    Proof,
    Proposal,
    Request,
    Said,
    Supply,
    Vote,
)
from swarm.ledger.light import handoff_digest, handoff_of
from swarm.ledger.net.sync import FollowReply, FollowRequest
from swarm.ledger.snapshot import (
    PART,
    EarlierReply,
    HandoffsReply,
    SnapshotRequest,
    compose_offer,
    compose_part,
)
from swarm.ledger.state.records import Council, Entry, Equivocator
from swarm.ledger.state.state import COUNCIL_KEY, equivocator_key
from swarm.ledger.storage_statements import StorageProof, StoreReceipt
from swarm.ledger.transactions import (
    BackOwner,
    Body,
    ChangeAsk,
    CloseRun,
    CommitSegment,
    ContinueRun,
    Evidence,
    FreeStatement,
    FundRun,
    Join,
    Leave,
    OpenRun,
    PauseRun,
    PostCheckpoint,
    ResumeRun,
    SignedVote,
    Stake,
    Transfer,
    Unstake,
    Validate,
    sign_transaction,
    transaction_digest,
)
from swarm.primitives import vrf
from swarm.primitives.codec import Message, encode, replace
from swarm.primitives.commitments import (
    SALT_BYTES,
    WindowResult,
    chunk_digests,
    hash_of,
    tensor_hash,
    trace_commit,
    trace_root,
    verify_commit,
)
from swarm.primitives.crypto import SecretKey, digest, fast_digest, peer_name, peer_text
from swarm.primitives.edges import sent_leaf, sent_root, signed_bytes
from swarm.primitives.merkle import SparseMap, merkle_proof, merkle_root, sha256_hash
from swarm.primitives.openings import Opening
from swarm.ticket import Ticket, format_ticket
from swarm.training.data.dataset import DatasetManifest, TokenFile, data_spec, document_name
from swarm.training.messages import (
    NO_LOSS,
    MicroBatch,
    MicroBatchGrad,
    MicroBatchRefused,
    Refusal,
    sign_grad,
    sign_microbatch,
    wire_digest,
)
from swarm.training.record.segment import MergeRecord, MicrobatchRecord, SegmentLog, StepRecord
from swarm.training.recorder import entry_of
from swarm.types import (
    NO_DIGEST,
    Amount,
    Digest,
    Height,
    PeerId,
    RoundIndex,
    RunIndex,
    StageIndex,
    View,
)
from swarm.verify.transcript import (
    COMPONENTS,
    component_proof,
    merge_leaf,
    microbatch_leaf,
    segment_roots,
    state_root,
    step_leaf,
    window_results,
)
from tests.vectors.edge_cases import SENT, demands, frauds, signed
from tests.vectors.network_cases import news, table
from tests.vectors.settlement_cases import settlement
from tests.vectors.state_cases import entries, signed_records, snapshot
from tests.vectors.window_cases import windows

Json = dict[str, object]

ALICE = SecretKey.from_seed(b"\x01" * 32)
BOB = SecretKey.from_seed(b"\x02" * 32)
VOTERS = (BOB, ALICE)
"""The validators of blocks and states: a set is sorted by peer."""
CHAIN = Digest(b"\x0c" * 32)
RUN = Digest(b"\x0d" * 32)
BEACON = Digest(b"\x0e" * 32)
SALT = bytes(range(SALT_BYTES))


def some(name: str) -> Digest:
    """A hash that stands for something."""
    return fast_digest("vector", name.encode())


def readable(value: object) -> object:
    """A value as JSON: bytes in hex, records by field."""
    if isinstance(value, Message):
        return {name: readable(getattr(value, name)) for name in value.__struct_fields__}
    if is_dataclass(value) and not isinstance(value, type):
        return {name: readable(field) for name, field in asdict(value).items()}
    if isinstance(value, bytes | memoryview):
        return value.hex()
    if isinstance(value, dict):
        return {name: readable(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def message(value: Message, **more: object) -> Json:
    """A message, its bytes, and what else follows from it."""
    names = {name: readable(item) for name, item in more.items()}
    kind = type(value).__name__
    return {"kind": kind, "fields": readable(value), "bytes": encode(value).hex(), **names}


def hallway() -> list[Json]:
    """Hashes, signatures, Merkle trees, tensors, VRF, tickets, greetings."""
    leaves = [b"a", b"b", b"c"]
    result = WindowResult(some("leaves"), some("start"), some("end"), 4_096)
    ticket = Ticket(CHAIN[:16], RUN[:16], ALICE.peer, ("/ip4/127.0.0.1/tcp/7420",), 1_800_000_000)
    big = bytes(range(256)) * 5000
    proof = vrf.prove(ALICE, b"alpha")
    hello = Hello("0.1.0", CHAIN[:16], bytes(8), ("/ip4/127.0.0.1/tcp/7420",), 1_800_000_000)
    return [
        {"kind": "digest", "purpose": "p", "parts": ["61", ""], "sha256": digest("p", b"a", b"").hex(),
         "blake3": fast_digest("p", b"a", b"").hex()},
        {"kind": "signature", "seed": ALICE.seed.hex(), "peer": ALICE.peer.hex(),
         "peer_text": peer_text(ALICE.peer), "peer_name": peer_name(ALICE.peer), "purpose": "p",
         "parts": ["61"], "signature": ALICE.sign("p", b"a").hex()},
        {"kind": "merkle", "leaves": ["61", "62", "63"], "blake3_root": merkle_root(leaves).hex(),
         "sha256_root": merkle_root(leaves, sha256_hash).hex(),
         "proof_of_2": readable(merkle_proof(leaves, 2)), "empty_root": merkle_root([]).hex()},
        {"kind": "tensor", "dtype": "float32", "shape": [2, 2], "values": [1.0, -2.0, 0.5, 0.0],
         "hash": hash_of(torch.tensor([[1.0, -2.0], [0.5, 0.0]])).hex()},
        {"kind": "large tensor", "dtype": "uint8", "shape": [len(big)], "rule": "byte i is i mod 256",
         "hash": tensor_hash("uint8", (len(big),), big).hex()},
        {"kind": "vrf", "seed": ALICE.seed.hex(), "alpha": b"alpha".hex(), "proof": proof.hex(),
         "beta": vrf.verify(ALICE.peer, b"alpha", proof).hex()},
        {"kind": "ticket", "fields": readable(ticket), "text": format_ticket(ticket)},
        message(hello),
        {"kind": "window", "result": readable(result), "salt": SALT.hex(), "claim": result.claim.hex(),
         "trace_commit": trace_commit(trace_root([result.claim]), SALT).hex(),
         "verify_commit": verify_commit(result.claim, SALT, BOB.peer).hex()},
    ]  # fmt: skip


def records() -> list[Json]:
    """What stands in the DHT."""
    announcement = Announcement(
        run16=RUN[:16],
        roles=5,
        seats=((0, 1), (1, 0)),
        tokens_per_s=12_000,
        loss_milli=2_100,
        round=7,
        steps=350,
        height=77,
        reachability="direct",
        version="0.1.0",
        addresses=("/ip4/127.0.0.1/tcp/7420",),
        state="training",
        num_traded=21,
        last_partner=BOB.peer,
    )
    payload = encode(announcement)
    record = sign_record(ALICE, "announce", payload, seq=9, expires_at=1_800_000_000)
    return [message(announcement), message(record, key=record_key("announce", ALICE.peer))]


def exchange() -> list[Json]:
    """Offers, chunks, receipts, blobs."""
    key = FragmentKey(RunIndex(1), StageIndex(0), 2, RoundIndex(7), 3)
    # Powers of two: exact on every machine, whatever its vector width.
    anchor = (torch.arange(200) - 100) / 128
    drift, residual = torch.arange(200) / 16384, (torch.arange(200) % 8) / 65536
    snapshot = FragmentPayload(anchor + drift, anchor, some("anchor"), 350, 4096, residual=residual)
    out: list[Json] = [
        message(OfferRequest(key, 4, some("anchor"), 5000)),
        message(ChunkRequest(some("payload"), 0, 1)),
        message(sign_receipt(BOB, CHAIN, Receipt(key, 4, some("payload"), b""))),
        message(NotYet()),
        message(Chunks((memoryview(b"one"), memoryview(b"two")))),
        message(Taken()),
    ]
    for codec in (Codec.INT8, Codec.INT4, Codec.INT3, Codec.BF16, Codec.F32):
        packed = pack(key, snapshot, codec)
        offer = sign_offer(ALICE, CHAIN, packed.offer)
        # The wire bytes may change with the version of zstandard; what is hashed before it may not.
        stable = replace(offer, wire_bytes=0, chunk_root=NO_DIGEST, signature=b"")
        out.append(
            message(
                stable,
                rule="anchor[i] = (i - 100) / 128, theta[i] - anchor[i] = i / 16384,"
                " residual[i] = (i mod 8) / 65536, 200 values",
            )
        )
    fixed = replace(packed.offer, wire_bytes=400, chunk_root=some("chunks"))
    out.append(message(Offered(sign_offer(ALICE, CHAIN, fixed), bytes(32))))
    out.append(message(FirstChunks(key, 4, some("anchor"), 8, 8)))
    blob = blob_manifest(b"a small blob", dtype="uint8", shape=(12,))
    big = blob_manifest(bytes(2_000_000), dtype="float32", shape=(500_000,))
    out += [
        message(ManifestRequest(blob_root(blob))),
        message(BlobFound(blob), root=blob_root(blob)),
        message(BlobFound(big), root=blob_root(big), rule="zeros"),
        message(BlobChunksRequest(blob_root(big), 1, 2)),
        message(BlobMissing()),
    ]
    return out


def pipeline() -> list[Json]:
    """Micro-batches and gradients."""
    values = (torch.arange(24) / 8).view(2, 3, 4)
    payload = to_wire(values)
    request = MicroBatch(
        run=RunIndex(1),
        round=RoundIndex(7),
        step=5,
        microbatch=2,
        origin=0,
        stage=StageIndex(1),
        source=0,
        destination=3,
        incarnation=1,
        version=12,
        budget_ms=1500,
        batch=2,
        length=3,
        features=4,
        payload=payload,
        signature=b"",
    )
    signed = sign_microbatch(ALICE, CHAIN, RUN, request)
    wire = wire_digest(payload)
    last = MicroBatchGrad.reply_to(signed, 4, wire, 2_100_000, payload)
    middle = MicroBatchGrad.reply_to(signed, 4, wire, NO_LOSS, payload)
    activations: Json = {"kind": "activations", "rule": "value[i] = i / 8, 24 values"}
    activations |= {form: to_wire(values, form).hex() for form in FORMS}
    return [
        message(signed, wire_digest=wire),
        message(sign_grad(BOB, CHAIN, RUN, last)),
        message(sign_grad(BOB, CHAIN, RUN, middle)),
        *(message(MicroBatchRefused(reason)) for reason in Refusal),
        activations,
    ]


def transcript() -> list[Json]:
    """State root, leaves, edges and roots of a segment."""
    state = tuple(some(name) for name in COMPONENTS)
    hashes = {
        name: some(name)
        for name in ("in_activation", "in_gradient", "out_activation", "out_gradient")
    }
    one = MicrobatchRecord(
        origin=0,
        step=5,
        microbatch=2,
        **hashes,
        source=1,
        destination=4,
        sample_ids_root=some("ids"),
    )
    step = StepRecord(5, state, (one, changed(one, microbatch=0)), ((0, 5, 3),), 2048)
    bare = StepRecord(6, None, (), (), 2048)
    merge = MergeRecord(
        exchange=1,
        partner=BOB.peer,
        partner_seat=6,
        my_payload=some("mine"),
        partner_payload=some("theirs"),
        weight_nano=500_000_000,
        components=state,
    )
    solo = MergeRecord(
        exchange=2,
        partner=None,
        partner_seat=-1,
        my_payload=NO_DIGEST,
        partner_payload=NO_DIGEST,
        weight_nano=0,
        components=state,
    )
    log = SegmentLog(StageIndex(1), 3, RoundIndex(7), state)
    log.records += [step, merge, bare, solo]
    log.end, log.tokens = state[::-1], 4096
    log.sent = (entry_of(one, 0),)
    return [
        {"kind": "state", "components": dict(zip(COMPONENTS, readable(state), strict=True)),  # type: ignore[call-overload]
         "root": state_root(state).hex(), "proof_of_phi": readable(component_proof(state, 4))},
        {"kind": "micro-batch leaf", "fields": readable(one), "leaf": microbatch_leaf(one).hex()},
        *({"kind": "step leaf", "fields": readable(s), "leaf": step_leaf(s).hex()} for s in (step, bare)),
        *({"kind": "merge leaf", "fields": readable(m), "leaf": merge_leaf(m).hex()} for m in (merge, solo)),
        *({"kind": "sent entry", "fields": readable(e), "leaf": sent_leaf(e).hex()} for e in log.sent),
        {"kind": "segment", "salt": SALT.hex(), "records": "the leaves above: step, merge, step, merge",
         "windows": readable(window_results(log)),
         "roots": readable(segment_roots(log, SALT))},
    ]  # fmt: skip


def transactions() -> list[Json]:
    """Everything a peer can sign for the ledger."""
    segment_id = (RunIndex(1), RoundIndex(7), StageIndex(1), 3)
    receipt = StoreReceipt(RunIndex(1), RoundIndex(8), StageIndex(1), ALICE.peer)
    bodies: list[Body] = [
        CommitSegment(
            run=RunIndex(1),
            round=RoundIndex(7),
            stage=StageIndex(1),
            seat=3,
            incarnation=1,
            start=some("start"),
            source=some("source"),
            end_root=some("end"),
            trace_commit=some("trace"),
            sent_root=some("exchange"),
            num_steps=50,
            tokens=409_600,
        ),
        PostCheckpoint(
            run=RunIndex(1),
            round=RoundIndex(8),
            stage=StageIndex(1),
            seat=3,
            phi_root=some("phi"),
            phi_bytes=400,
            proof=(bytes(32),) * 4,
        ),
        OpenRun(b"an encoded spec", Amount(1_000_000)),
        CloseRun(RunIndex(1)),
        PauseRun(RunIndex(1)),
        ResumeRun(RunIndex(1)),
        Join(RunIndex(1)),
        Join(RunIndex(1), 9),
        ChangeAsk(RunIndex(1), 7),
        BackOwner(RunIndex(1), PeerId(BOB.peer)),
        ContinueRun(RunIndex(1), Amount(8)),
        FundRun(RunIndex(1), Amount(9)),
        Leave(RunIndex(1)),
        Transfer(BOB.peer, Amount(5)),
        Stake(Amount(6)),
        Unstake(Amount(7)),
        Validate(is_on=True),
        Evidence(
            PeerId(BOB.peer),
            3,
            View(5),
            SignedVote(0, some("left"), bytes(range(64))),
            SignedVote(0, some("right"), bytes(range(64))),
        ),
        DataRequest(*segment_id, 1, bytes(range(80))),
        VerifyCommit(*segment_id, 1, 2, some("blind")),
        RevealSegment(
            *segment_id,
            SALT,
            (some("leaves"), some("leaves 2")),
            (some("state"),),
            (400_000, 9_600),
        ),
        VerifyReveal(*segment_id, 1, SALT, b""),
        VerifyReveal(*segment_id, 1, SALT, some("claim")),
        VerifyReveal(*segment_id, 1, SALT, b"", some("said"), True, b"a statement"),
        DisputeMove(*segment_id, 2, b"a move"),
        TraceFraud(*segment_id, b"a proof"),
        ForcedError(*segment_id, check=1, number=2, proof=b"a proof"),
        Report(*segment_id, 2, some("blind")),
        ContestService(*segment_id, 1, 2),
        WitnessService(
            run=RunIndex(1),
            round=RoundIndex(7),
            stage=StageIndex(1),
            seat=3,
            check=1,
            is_served=True,
            proof=bytes(range(80)),
        ),
        *frauds(signed(ALICE, CHAIN, RUN)),
        *demands(signed(ALICE, CHAIN, RUN)),
        receipt,
        StorageProof(
            run=receipt.run,
            round=receipt.round,
            stage=receipt.stage,
            holder=receipt.holder,
            asked=Height(120),
            leaves=(Opening(950, bytes(24), (bytes(32), some("beside"))),),
        ),
    ]
    out: list[Json] = []
    for body in bodies:
        is_free = isinstance(body, FreeStatement)
        terms = {} if is_free else {"nonce": 1, "fee": 10, "expiry": 99}
        data = sign_transaction(ALICE, CHAIN, body, **terms)
        name = transaction_digest(data).hex()
        kind = type(body).__name__
        out.append(
            {"kind": kind, "fields": readable(body), **terms, "bytes": data.hex(), "digest": name}
        )
    return out


def edges() -> list[Json]:
    """What a seat signs of what it sends, and the list of all of it."""
    up, down, given = signed(ALICE, CHAIN, RUN)
    return [
        message(up, signed=signed_bytes(up)),
        message(down, signed=signed_bytes(down)),
        message(given, fragment=fragment_digest(given)),
        *(message(entry, leaf=sent_leaf(entry)) for entry in SENT),
        *({"kind": "sent root", "count": n, "root": sent_root(SENT[:n]).hex()} for n in range(len(SENT) + 1)),
    ]  # fmt: skip


def blocks() -> list[Json]:
    """Headers, blocks, votes, certificates and what carries them."""
    body = (sign_transaction(ALICE, CHAIN, Join(RunIndex(1)), nonce=1, fee=10, expiry=99),)
    alpha = vrf_alpha(CHAIN, 3, View(5), BEACON)
    proof = vrf.prove(ALICE, alpha)
    voters = [Validator(PeerId(key.peer), Amount(40)) for key in VOTERS]
    header = Header(
        chain=CHAIN,
        height=Height(4),
        epoch=3,
        view=View(5),
        parent=some("parent"),
        state_root=some("state"),
        body_root=body_root(body),
        next_validators=validators_digest(voters),
        vrf_proof=proof,
        leader=PeerId(ALICE.peer),
    )
    block, name = Block(header, body), block_digest(header)
    certificates = []
    for kind in (NOTARIZE, NULLIFY, FINALIZE):
        voted = NO_DIGEST if kind == NULLIFY else name
        votes = tuple(
            key.sign(VOTE_PURPOSES[kind], *vote_parts(CHAIN, 3, View(5), voted)) for key in VOTERS
        )
        certificates.append(Certificate(kind, View(5), voted, 0b11, votes))
    vote = Vote(NOTARIZE, View(5), name, 0, certificates[0].signatures[0])
    parts = vote_parts(CHAIN, 3, View(6), name)
    again = Proposal(View(6), block, (certificates[0],), ALICE.sign("proposal", *parts))
    beta = vrf.verify(ALICE.peer, alpha, proof)
    return [
        message(block, digest=name, vrf_alpha=alpha, next_beacon=next_beacon(BEACON, beta)),
        *(message(certificate) for certificate in certificates),
        message(ValidatorSet(tuple(voters)), digest=validators_digest(voters)),
        message(Batch((Said(3, vote), Said(3, again), Said(2, Proof(certificates[1]))))),
        message(Batch((Said(3, Request(View(6), (name,), (View(4),))), Said(3, Supply(block))))),
        message(Batch((Said(3, Heard(vote)),))),
        message(FollowRequest(Height(1), 5000)),
        message(FollowReply((block,), (header,), certificates[2], Height(3), is_full=False)),
        *snapshots(header, certificates[2], voters),
    ]


def snapshots(header: Header, certificate: Certificate, voters: Sequence[Validator]) -> list[Json]:
    """What leads to a state, and carries it in parts."""
    handoff = handoff_of(header, certificate, voters)
    stay = replace(handoff, validators=())
    entries: dict[bytes, Entry | None] = {
        equivocator_key(voter.peer): Equivocator(3, View(5), Height(44), Amount(40))
        for voter in voters
    }
    tree = SparseMap[Entry]().update(entries)
    parts = tree.cut(1)
    offer = compose_offer(handoff, parts)
    return [
        message(handoff, digest=handoff_digest(handoff, voters)),
        message(stay, digest=handoff_digest(stay, voters)),
        message(SnapshotRequest(PART, Height(4), 1)),
        message(offer, root=tree.root),
        *(message(compose_part(part)) for part in parts),
        message(HandoffsReply((handoff, stay))),
        message(EarlierReply((Block(header, ()),))),
        message(ChainStart((stay,), handoff, b"state")),
    ]


def validators() -> list[Json]:
    """Entries of the state about validators, by key, and the root over them."""
    voters = tuple(Validator(PeerId(key.peer), Amount(40)) for key in VOTERS)
    peers = tuple(voter.peer for voter in voters)
    council = Council(
        previous=voters[:1],
        current=voters,
        next=voters[1:],
        seed=BEACON,
        skipped=(0, 3),
        candidates=peers,
    )
    convicted = Equivocator(3, View(5), Height(44), Amount(40))
    entries: dict[bytes, Entry | None] = {
        COUNCIL_KEY: council,
        equivocator_key(peers[1]): convicted,
    }
    root = SparseMap[Entry]().update(entries).root.hex()
    return [
        *(message(entry, key=key) for key, entry in entries.items() if entry is not None),
        {"kind": "state", "entries": "the two above", "root": root},
    ]


def state() -> list[Json]:
    """Every kind of entry of the ledger's state, the root of a whole state, and what is kept of votes."""
    root, data = snapshot()
    return [
        *(message(entry, key=key) for key, entry in sorted(entries().items())),
        *map(message, signed_records()),
        {"kind": "snapshot", "root": root.hex(), "sha256": sha256_hash(data).hex()},
    ]


def datasets() -> list[Json]:
    """Names of documents, and what a dataset says of itself."""
    tokens = bytes(range(256)) * 6000
    train = TokenFile(
        tensor_hash("uint16", (len(tokens) // 2,), tokens),
        len(tokens),
        b"".join(chunk_digests(tokens)),
    )
    heldout = TokenFile(tensor_hash("uint16", (2,), b"abcd"), 4, b"".join(chunk_digests(b"abcd")))
    manifest = DatasetManifest(
        format=1,
        tokenizer="file",
        tokenizer_root=some("tokenizer"),
        dtype="uint16",
        num_token_ids=65_536,
        separator=65_535,
        heldout_every=20,
        num_documents=40,
        train=train,
        heldout=heldout,
    )
    return [
        {"kind": "document", "text": "6162", "name": document_name(b"ab").hex()},
        message(manifest, digest=manifest.digest),
        message(data_spec(manifest)),
    ]


VECTORS: dict[str, Callable[[], list[Json]]] = {
    "hallway": hallway,
    "records": records,
    "table": lambda: table(message, ALICE, BOB.peer),
    "news": lambda: news(message),
    "exchange": exchange,
    "pipeline": pipeline,
    "transcript": transcript,
    "transactions": transactions,
    "edges": edges,
    "blocks": blocks,
    "validators": validators,
    "state": state,
    "datasets": datasets,
    "windows": windows,
    "settlement": settlement,
}
"""File name (without .json) -> what is in it."""
