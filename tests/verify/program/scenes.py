"""Windows of real seats, as both sides of a dispute and the ledger see them."""

import dataclasses
from dataclasses import dataclass
from functools import cache

from swarm.primitives.codec import replace
from swarm.primitives.commitments import tensor_hash
from swarm.training.record.window import StepTaken
from swarm.types import Digest
from swarm.verify.program.account import Account, Kind, result_of
from swarm.verify.program.dispute import Window
from swarm.verify.program.players import Log
from tests.training.pipeline import TEXT
from tests.verify.windows import TOKENS, Harvest, harvest, spec_of

EXACT = "seq-f32/1"
ANYWHERE = Digest(b"\x07" * 32)


@cache
def trained() -> Harvest:
    spec = spec_of(2, EXACT)
    root = tensor_hash("uint8", (len(TEXT),), TEXT)
    data = replace(spec.data, train_root=root, train_bytes=len(TEXT), dtype="uint8")
    return harvest(replace(spec, data=data))


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
def scene(stage: int, number: int = 0, round_: int = 1) -> Scene:
    done = trained()
    segment = done.segments[round_, stage, 0]
    data = segment.windows[number]
    log = Log(segment.plan, data, TOKENS, done.anchors[stage])
    steps = sum(isinstance(event, StepTaken) for event in data.events)
    window = Window(log.facts, segment.claims()[number].claim, number, steps)
    return Scene(log, window, log.account)


def steps_in(account: Account) -> list[int]:
    return [event for event, kind in enumerate(account.kinds) if kind == Kind.STEP]
