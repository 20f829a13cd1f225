"""Train one seat alone through the parts that a node uses: recorder, trade plan, outbox, files of the home.

The partner of every trade is the seat itself: what it receives is what it sent, read as a partner would.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from swarm.config.load import parse_run_file, run_spec
from swarm.config.spec import DataSpec, RunSpec
from swarm.gossip.blobs.disk import BlobStore
from swarm.gossip.trade.messages import NO_SIGNATURE, FragmentKey, Receipt
from swarm.gossip.trade.outbox import Outbox, PublishedFragment
from swarm.gossip.trade.payload import ReceivedFragment, open_payload, pack
from swarm.node.artifacts.checkpoints import ClosedSegment
from swarm.node.seat.adoption import write_shard
from swarm.node.seat.seats import CLOSED_KEPT
from swarm.placement import let_go, spilled_pieces
from swarm.primitives.codec import replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.spill import SPILL, file_bytes, use_folder
from swarm.training.averaging.outer_step import (
    FragmentSnapshot,
    Merge,
    SentFragment,
    outer_scalars,
)
from swarm.training.averaging.payload import fragment_payload, read_values
from swarm.training.averaging.trade_plan import outdated_keys
from swarm.training.data.dataset import TokenSource
from swarm.training.plan import RosterSeat, RoundPlan
from swarm.training.record.checkpoint import decode_phi, phi_bytes
from swarm.training.record.window import (
    WindowData,
)
from swarm.training.record.window_bytes import (
    encode_window,
)
from swarm.training.recorder import SegmentRecorder
from swarm.training.shard import Shard
from swarm.types import NO_DIGEST, Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.log_store import root_of_bytes

CHAIN = digest("test", b"bench-seat")
PARTNER = SecretKey.from_seed(b"p" * 32)
RUN_FILE = """
[run]
numerics = "{numerics}"
recipe = "noloco"
[model]
hidden_size = {hidden}
num_layers = {layers}
num_heads = 4
num_kv_heads = 4
intermediate_size = {inner}
seq_len = 16
[training]
num_stages = 1
microbatch_size = 1
microbatches_per_step = 2
inner_steps_max = 10
round_blocks = 150
checkpoint_rounds = 8
[optimizer]
name = "{optimizer}"
[outer]
fragments = {fragments}
trades_per_round = {trades}
codec = "{codec}"
[ledger]
epoch_blocks = 720
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Shape of a model; its other sizes follow from these."""

    hidden_size: int
    num_layers: int
    vocab_size: int


Phase = Callable[[str], AbstractContextManager[None]]


def unwatched(_name: str) -> AbstractContextManager[None]:
    """Return a phase that measures nothing."""
    return nullcontext()


def a_spec(sizes: Sizes, numerics: str, optimizer: str, codec: str) -> RunSpec:
    """Return a run of one stage with a model of this shape; with int4-mean as large fragments as by default."""
    text = RUN_FILE.format(
        numerics=numerics,
        hidden=sizes.hidden_size,
        layers=sizes.num_layers,
        inner=sizes.hidden_size * 8 // 3 // 32 * 32,
        optimizer=optimizer,
        codec=codec,
        fragments=2 if codec == "int4-mean" else 6,
        trades=3 if codec == "int4-mean" else 1,
    )
    spec = run_spec(
        parse_run_file(text, "seat.toml"),
        data=DataSpec("bytes", NO_DIGEST, 1 << 14, NO_DIGEST, 1000),
    )
    return replace(spec, model=replace(spec.model, vocab_size=sizes.vocab_size))


class TrainedSeat:
    """One seat and all that its node keeps for it."""

    def __init__(
        self,
        sizes: Sizes,
        home: Path,
        tokens: TokenSource,
        *,
        numerics: str = "native",
        optimizer: str = "adamw",
        codec: str = "int8",
    ) -> None:
        self.spec = a_spec(sizes, numerics, optimizer, codec)
        self._home, self._tokens = home, tokens
        home.mkdir(parents=True)
        use_folder(home / SPILL)
        self._blobs = BlobStore(home / "blobs", quota_bytes=1 << 36)
        self.shard = Shard.initial(self.spec, StageIndex(0))
        self.numel = self.shard.params_P.numel()
        self.recorder = SegmentRecorder(self.shard, 0, keeps_windows=self.spec.is_exact)
        self._outbox = Outbox()
        self._closed = list[ClosedSegment]()
        self._anchor: tuple[torch.Tensor, Digest] | None = None
        self._round = 0

    def round(self, phase: Phase = unwatched) -> None:
        """Take a round: for each exchange an offer, a step and a merge; then all that follows the boundary."""
        plan = self._plan()
        with phase("begin"):
            self.recorder.begin(plan, self._anchor)
        windows = list[WindowData]()
        for exchange in range(self.spec.outer.exchanges):
            windows += self._traded_step(plan, exchange, phase)
        with phase("close"):
            windows += self.recorder.close(())
            log_end = self.shard.components()
            for window in windows:
                self._keep(window)
            del windows
            self._closed.append(ClosedSegment(plan.round, log_end, self.shard.phi()))
            del self._closed[:-CLOSED_KEPT]
        with phase("save"):
            write_shard(self._home / "seat.bin", self.shard, self.spec.digest, 0, plan.round)
        with phase("post"):
            self._post()
        self._round += 1

    def _traded_step(self, plan: RoundPlan, exchange: int, phase: Phase) -> list[WindowData]:
        with phase("backward"):
            self.recorder.loss_tokens(self._tokens, 2 * exchange, 0)
            self.recorder.loss_tokens(self._tokens, 2 * exchange, 1)
        with phase("step"):
            windows = self.recorder.step(())
        with phase("offer"):
            snapshot = self.recorder.snapshot(exchange)
            published = self._offer(plan, snapshot)
        with phase("backward"):
            self.recorder.loss_tokens(self._tokens, 2 * exchange + 1, 0)
            self.recorder.loss_tokens(self._tokens, 2 * exchange + 1, 1)
        with phase("receive"):
            merge = self._received(plan, snapshot, published)
            merge = self.recorder.clip_or_reject(self._tokens, merge)
        with phase("step"):
            windows += self.recorder.step([merge])
        return windows

    def _offer(self, plan: RoundPlan, snapshot: FragmentSnapshot) -> PublishedFragment:
        """Publish a fragment and pack it, as ``TradeServer.prepare`` does."""
        payload = fragment_payload(self.spec, plan.round, snapshot)
        key = FragmentKey(plan.run, StageIndex(0), snapshot.exchange, plan.round, 0)
        outdated = outdated_keys(self.spec.outer, key)
        self._outbox.publish(key, payload, PARTNER.peer, outdated=outdated)
        published = self._outbox.published(key)
        assert published is not None, "a fragment is kept for its round"
        packed = pack(key, payload, payload.codec)
        published.packed[payload.codec] = published.offers[payload.codec] = packed  # type: ignore[assignment]
        published.offers[payload.codec] = packed.offer
        return published

    def _received(
        self, plan: RoundPlan, snapshot: FragmentSnapshot, published: PublishedFragment
    ) -> Merge:
        """Read the partner's fragment, which is ours, and return the merge with it."""
        packed = next(iter(published.packed.values()))
        payload, values = open_payload(packed.offer, bytes(packed.wire), snapshot.anchor_P)
        theta_hat, phi_hat = read_values(self.spec, values)
        sent = None
        if packed.residual is not None:
            receipt = Receipt(published.key, 1, packed.offer.payload_hash, NO_SIGNATURE)
            sent = SentFragment(receipt, packed.residual)
        return Merge(
            snapshot=snapshot,
            theta_hat_P=theta_hat,
            weight_nano=400_000_000,
            scalars=outer_scalars(self.spec.outer, plan.round),
            partner=PARTNER.peer,
            partner_seat=1,
            my_payload=packed.offer.payload_hash,
            received=ReceivedFragment(packed.offer, payload, values),
            phi_hat_P=phi_hat,
            sent=sent,
        )

    def _keep(self, window: WindowData) -> None:
        """Keep a window as ``LogStore.keep_own`` does."""
        raw = spilled_pieces(encode_window(window))
        root_of_bytes(raw)
        self._blobs.add_bytes(memoryview(raw), "uint8", (len(raw),))

    def _post(self) -> None:
        """Post the checkpoint, and read it back as the next anchor."""
        closed = self._closed[-1]
        shape = tuple(closed.phi_P.shape)
        root = self._blobs.add_bytes(phi_bytes(closed.phi_P), "float32", shape)
        anchor_P = decode_phi(file_bytes(self._blobs.path(root)), self.numel)
        let_go()
        self._anchor = (anchor_P, root)

    def _plan(self) -> RoundPlan:
        seat = RosterSeat(0, PARTNER.peer, 0)
        return RoundPlan(
            chain=CHAIN,
            run=RunIndex(1),
            run_digest=self.spec.digest,
            spec=self.spec,
            round=RoundIndex(self._round),
            beacon=Digest(digest("test", b"beacon")),
            rosters=((seat,),),
        )
