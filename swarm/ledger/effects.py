"""What the consensus machine asks of its shell, and what it needs from the state machine.

Core: pure data, and the order in which wishes are granted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from swarm.ledger.blocks import Block, Certificate
from swarm.ledger.journal import Record
from swarm.ledger.votes import Evidence, Statement
from swarm.types import Digest, Height, View


class Chamber(Protocol):
    """The power to build and judge blocks, which takes the ledger's state."""

    def build(self, parent: Digest, height: Height, view: View) -> Block:
        """A block of ours on ``parent``."""
        ...

    def validate(self, block: Block) -> None:
        """Raise ``InvalidStatement`` or ``PeerFault`` unless ``block`` is right on its parent.

        The parent is the final block, or was validated before; asking twice costs nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Save:
    """Effect: make this durable before any ``Send`` of the same list."""

    record: Record


@dataclass(frozen=True, slots=True)
class Send:
    """Effect: tell one validator, or all others if ``to`` is None."""

    to: int | None
    statement: Statement


@dataclass(frozen=True, slots=True)
class Finalized:
    """Effect: these blocks, oldest first, are final; the certificate is the last one's."""

    blocks: tuple[Block, ...]
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Behind:
    """Effect: the network has finalised this view, far ahead of us: sync in bulk."""

    view: View


@dataclass(frozen=True, slots=True)
class Muted:
    """Effect: we have signed what our journal does not hold, so we vote no more."""

    view: View


Effect = Save | Send | Finalized | Behind | Muted | Evidence


def records_of(effects: Iterable[Effect]) -> list[Record]:
    """What must be durable before anything is sent."""
    return [effect.record for effect in effects if isinstance(effect, Save)]


def letters_of(effects: Iterable[Effect], *, me: int, count: int) -> dict[int, list[Statement]]:
    """What goes to whom, by validator: one frame each instead of one per statement, nothing twice."""
    letters: dict[int, list[Statement]] = {}
    for effect in effects:
        if isinstance(effect, Send):
            everybody = [i for i in range(count) if i != me]
            for to in everybody if effect.to is None else [effect.to]:
                letter = letters.setdefault(to, [])
                if effect.statement not in letter:
                    letter.append(effect.statement)
    return letters
