"""Windows of real seats, as both sides of a dispute and the ledger see them."""

import dataclasses
from dataclasses import dataclass
from functools import cache

import torch

from swarm.config.spec import NANO
from swarm.gossip.codecs.int8 import encode_f32
from swarm.gossip.trade.messages import Codec, FragmentKey, sign_offer
from swarm.gossip.trade.payload import FragmentPayload, pack
from swarm.primitives.codec import replace
from swarm.primitives.commitments import tensor_hash
from swarm.primitives.crypto import SecretKey
from swarm.training.model.stages import plans_of
from swarm.training.record.segment import NO_PARTNER
from swarm.training.record.window import FragmentMerged, SnapshotTaken, StepTaken, WindowData
from swarm.training.terms import terms_of
from swarm.types import NO_DIGEST, Digest, StageIndex
from swarm.verify.manifest import WindowManifest, manifest_of, sign_manifest
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.computed import Log
from swarm.verify.program.opened import Window
from swarm.verify.program.players import Challenger
from tests.training.pipeline import TEXT
from tests.verify.windows import TOKENS, WINDOW_STEPS, Field, Harvest, harvest, spec_of

EXACT = "seq-f32/1"
ANYWHERE = Digest(b"\x07" * 32)


CODEC = "int8"
TWO_TENSORS = "int4-mean"
"""Codec of the run in which phi travels, too."""
TWO_TRADES = "int4"
"""Codec of the run in which a fragment is traded twice a round."""
DECLINED = "bf16"
"""Codec of the run in which the second replica offers values that nobody can merge."""


@cache
def trained(codec: str = CODEC, window_steps: int = WINDOW_STEPS) -> Harvest:
    spec = spec_of(2, EXACT)
    spec = replace(spec, checks=replace(spec.checks, window_steps=window_steps))
    root = tensor_hash("uint8", (len(TEXT),), TEXT)
    data = replace(spec.data, train_root=root, train_bytes=len(TEXT), dtype="uint8")
    gamma = spec.outer.gamma_nano + (NANO // 5 if codec == TWO_TENSORS else 0)
    trades = 2 if codec == TWO_TRADES else 1
    outer = replace(spec.outer, codec=codec, gamma_nano=gamma, trades_per_round=trades)
    spec = replace(spec, data=data, outer=outer, rounds=20)
    if codec == DECLINED:
        return harvest(spec, codecs=(Codec.BF16,), prepare=offers_too_much)
    return harvest(spec)


def offers_too_much(swarm: Field) -> None:
    """Make every offer of the second replica far too large."""
    swarm.offered = lambda index, theta: theta * 1e14 if index else theta


@dataclass
class Scene:
    """A window of a seat, with its log and an honest account of it."""

    log: Log
    window: Window
    account: Account
    secret: SecretKey
    """Key of its solver."""

    @property
    def manifest(self) -> WindowManifest:
        """What its solver signs about the log."""
        return manifest_for(self.log, self.secret)

    def accuser(self, window: Window) -> Challenger:
        """A challenger that was served the log."""
        return Challenger(window, self.log, manifest=self.manifest)

    def against(self, account: Account) -> Window:
        """The window of a solver that says this of it."""
        return dataclasses.replace(self.window, claim=result_of(account).claim)


def manifest_for(log: Log, secret: SecretKey, data: WindowData | None = None) -> WindowManifest:
    """The manifest of a log, as a solver with this key signs it; of ``data`` in its place, with its start."""
    data = dataclasses.replace(data or log.data, start_root=Digest(log.account.start))
    unsigned = manifest_of(data, Digest(bytes(32)), 1)
    return sign_manifest(secret, log.plan.chain, log.plan.run_digest, unsigned)


@cache
def scene(stage: int, number: int = 0, round_: int = 1, codec: str = CODEC) -> Scene:
    done = trained(codec)
    segment = done.segments[round_, stage, 0]
    data = segment.windows[number]
    log = Log(segment.plan, data, TOKENS, done.anchors[stage])
    steps = sum(isinstance(event, StepTaken) for event in data.events)
    window = Window(
        facts=log.facts,
        seating=log.seating,
        claim=segment.claims()[number].claim,
        number=number,
        steps=steps,
        is_last=data.is_last,
        anchors=tuple(done.anchors[stage]),
    )
    return Scene(log, window, log.account, done.secrets[stage, 0])


@cache
def final_scene(stage: int) -> Scene:
    """A round of final averaging of a seat: a fragment with a partner, and one alone."""
    done = trained(TWO_TRADES)
    segment = done.segments[1, stage, 0]
    plan, first = dataclasses.replace(segment.plan, consensus=0), segment.windows[0]
    terms = terms_of(plan, StageIndex(stage), 0, 0)
    assert terms is not None
    numel = plans_of(plan.spec)[stage].fragments(plan.spec.outer.fragments)[0].numel
    theta = 0.1 * torch.randn(numel, generator=torch.Generator().manual_seed(stage))
    offered = FragmentPayload(theta, torch.zeros(numel), NO_DIGEST, 4, 100)
    key = FragmentKey(plan.run, StageIndex(stage), 0, plan.round, terms.partner.index)
    packed = pack(key, offered, Codec.F32)
    merged = FragmentMerged(
        exchange=0,
        partner_seat=terms.partner.index,
        weight_nano=terms.due_nano(0, 0),
        my_payload=NO_DIGEST,
        offer=sign_offer(done.secrets[stage, terms.partner.index], plan.chain, packed.offer),
        payload=encode_f32(theta),
    )
    solo = FragmentMerged(1, NO_PARTNER, 0, NO_DIGEST, None)
    events = (SnapshotTaken(0), merged, SnapshotTaken(1), solo)
    data = dataclasses.replace(first, is_last=True, events=events)
    log = Log(plan, data, TOKENS, done.anchors[stage])
    claim = result_of(log.account).claim
    window = Window(
        facts=log.facts,
        seating=log.seating,
        claim=claim,
        number=0,
        steps=0,
        is_last=True,
        anchors=(),
    )
    return Scene(log, window, log.account, done.secrets[stage, 0])


def steps_in(account: Account) -> list[int]:
    return [event for event, kind in enumerate(account.kinds) if kind == Kind.STEP]
