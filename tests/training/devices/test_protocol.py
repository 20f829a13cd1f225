"""A node and the processes of its devices understand each other, and nothing else."""

import math

import pytest

from swarm.errors import BadEncoding
from swarm.primitives.codec import encode
from swarm.training.devices.protocol import (
    UNANSWERED,
    Backward,
    Clear,
    Command,
    Count,
    Done,
    Failed,
    Forward,
    Load,
    Loss,
    Mean,
    Setup,
    command_of,
    loss_bytes,
    loss_of,
    reply_of,
)

COMMANDS: tuple[Command, ...] = (
    Setup(
        spec=b"spec",
        stage=1,
        device="cuda:1",
        rank=1,
        world=2,
        folder="/folder",
        compiles=True,
        recompute="auto",
        threads=4,
    ),
    Load(),
    Forward(7, 8, 128),
    Backward(7, 8, 128),
    Loss(8, 128),
    Count(),
    Mean(),
    Clear(),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_arrives_as_it_was_said(command: Command) -> None:
    assert command_of(encode(command)) == command


def test_a_reply_arrives_as_it_was_said() -> None:
    for reply in (Done(False, loss_bytes(1.5), ("a word",)), Failed("out of memory")):
        assert reply_of(encode(reply)) == reply
    with pytest.raises(BadEncoding):
        reply_of(encode(Load()))
    with pytest.raises(BadEncoding):
        command_of(b"\xc1")


def test_a_loss_keeps_every_bit() -> None:
    assert loss_of(Done(loss=loss_bytes(math.pi))) == math.pi
    assert math.isnan(loss_of(Done(loss=loss_bytes(math.nan))))
    assert loss_of(Done(loss=b"")) == 0.0


def test_what_wants_no_answer_is_listed() -> None:
    assert set(UNANSWERED) == {Count, Clear}
