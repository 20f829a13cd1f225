"""Windows of real seats, as both sides of a dispute and the ledger see them."""

import dataclasses
from dataclasses import dataclass
from functools import cache

from swarm.config.spec import NANO
from swarm.primitives.codec import replace
from swarm.primitives.commitments import tensor_hash
from swarm.training.record.window import StepTaken
from swarm.types import Digest
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.computed import Log
from swarm.verify.program.dispute import Window
from tests.training.pipeline import TEXT
from tests.verify.windows import TOKENS, Harvest, harvest, spec_of

EXACT = "seq-f32/1"
ANYWHERE = Digest(b"\x07" * 32)


CODEC = "int8"
TWO_TENSORS = "int4-mean"
"""Codec of the run in which phi travels, too."""
TWO_TRADES = "int4"
"""Codec of the run in which a fragment is traded twice a round."""


@cache
def trained(codec: str = CODEC) -> Harvest:
    spec = spec_of(2, EXACT)
    root = tensor_hash("uint8", (len(TEXT),), TEXT)
    data = replace(spec.data, train_root=root, train_bytes=len(TEXT), dtype="uint8")
    gamma = spec.outer.gamma_nano + (NANO // 5 if codec == TWO_TENSORS else 0)
    trades = 2 if codec == TWO_TRADES else 1
    outer = replace(spec.outer, codec=codec, gamma_nano=gamma, trades_per_round=trades)
    return harvest(replace(spec, data=data, outer=outer, rounds=20))


@dataclass
class Scene:
    """A window of a seat, with its log and an honest account of it."""

    log: Log
    window: Window
    account: Account

    def against(self, account: Account) -> Window:
        """The window of a solver that says this of it."""
        return dataclasses.replace(self.window, claim=result_of(account).claim)


@cache
def scene(stage: int, number: int = 0, round_: int = 1, codec: str = CODEC) -> Scene:
    done = trained(codec)
    segment = done.segments[round_, stage, 0]
    data = segment.windows[number]
    log = Log(segment.plan, data, TOKENS, done.anchors[stage])
    steps = sum(isinstance(event, StepTaken) for event in data.events)
    window = Window(
        facts=log.facts,
        claim=segment.claims()[number].claim,
        number=number,
        steps=steps,
        is_last=data.is_last,
        anchors=tuple(done.anchors[stage]),
    )
    return Scene(log, window, log.account)


def steps_in(account: Account) -> list[int]:
    return [event for event, kind in enumerate(account.kinds) if kind == Kind.STEP]
