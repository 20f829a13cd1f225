"""What a node says of itself is so: a loss as soon as it has one, and no training after the end."""

from types import SimpleNamespace as Some
from typing import Any

import pytest

from swarm.dht.directory import STATES
from swarm.ledger.state.records import RunPhase
from swarm.node.context import NodeStats
from swarm.node.join.announce import announcement
from swarm.types import PeerId

ME = PeerId(b"m" * 32)


def a_context(phase: RunPhase = RunPhase.TRAINING, *, is_seated: bool = True) -> Any:  # noqa: ANN401
    seat = Some(stage=0, index=2, peer=ME if is_seated else PeerId(b"o" * 32))
    account = Some(stake=0)
    return Some(
        me=ME,
        run=Some(seats=((seat,),), rounds=(Some(round=3),), phase=phase),
        run16=bytes(16),
        tally=NodeStats(),
        config=Some(solve=True, verify=True),
        ledger=Some(height=9, is_validator=False, state=Some(account=lambda _: account)),
        host=Some(addresses=list),
        checks=Some(jobs=()),
    )


def test_the_loss_of_the_first_round_is_announced_before_it_is_over() -> None:
    context = a_context()
    assert announcement(context).loss_milli == -1
    context.tally.open_loss = 4.3125
    assert announcement(context).loss_milli == 4312
    context.tally.losses.append((0, 3.5))
    assert announcement(context).loss_milli == 3500, "a whole round counts more than a part of one"


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        (RunPhase.TRAINING, "training"),
        (RunPhase.COOLING, "training"),
        (RunPhase.FINISHED, "idle"),
        (RunPhase.SETTLED, "idle"),
    ],
)
def test_nobody_is_training_after_the_end(phase: RunPhase, state: str) -> None:
    """The ledger keeps the seats until the run is settled."""
    said = announcement(a_context(phase))
    assert said.state == state
    assert said.state in STATES
    assert said.seats == ((0, 2),)
    assert announcement(a_context(phase, is_seated=False)).state == "idle"
