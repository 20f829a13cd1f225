"""The younger of two machines with one key stops and says why; the older says so once, and goes on."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from swarm.errors import BadIdentity
from swarm.events import EventKind
from swarm.host.twins import Twin
from swarm.node.join.twins import TOLD_MAX, heed_twins
from swarm.types import PeerId


async def heeded(*found: Twin) -> list[tuple[EventKind, str]]:
    """What is reported of these, one after the other."""
    send, receive = trio.open_memory_channel[Twin](len(found))
    host: Any = SimpleNamespace(twins=receive, peer=PeerId(bytes(32)))
    said = list[tuple[EventKind, str]]()
    for twin in found:
        send.send_nowait(twin)
    send.close()
    await heed_twins(host, lambda kind, text: said.append((kind, text)))
    return said


def a_twin(number: int, *, is_older: bool) -> Twin:
    return Twin(number.to_bytes(8, "big"), 7_300, is_older)


@pytest.mark.rule("H22")
async def test_the_younger_stops_and_says_what_to_do() -> None:
    with pytest.raises(BadIdentity, match="for 2 hours: this one stops") as caught:
        await heeded(a_twin(1, is_older=True))
    assert "--home FOLDER" in caught.value.hint


@pytest.mark.rule("H22")
async def test_the_older_names_each_once_however_many_neighbours_say_so() -> None:
    said = await heeded(*[a_twin(1, is_older=False)] * 3, a_twin(2, is_older=False))
    assert [kind for kind, _ in said] == [EventKind.WARNING] * 2
    assert "somebody has a copy of the key" in said[0][1]


@pytest.mark.rule("H22")
async def test_few_are_remembered() -> None:
    twins = [a_twin(number, is_older=False) for number in range(TOLD_MAX + 2)]
    assert len(await heeded(*twins, twins[-1], twins[0])) == TOLD_MAX + 3
