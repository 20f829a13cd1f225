"""What the open step has gathered: gradients, the records of their micro-batches, and what never came back.

Core: a container with limits. Legend: P parameters of the shard.
"""

from dataclasses import dataclass

from torch import Tensor

from swarm.errors import DeviceLost
from swarm.training.engine import Gradients
from swarm.training.inner import MICROBATCHES_MAX
from swarm.training.outgoing import TooBusy
from swarm.training.segment import MicrobatchRecord, Place

DROPPED_MAX = 1024
"""Micro-batches one step says it dropped; what is lost beyond that is not worth its bytes on the ledger."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What went into one optimizer step besides its gradient."""

    records: tuple[MicrobatchRecord, ...]
    dropped: tuple[Place, ...]
    tokens: int


class OpenStep:
    """Everything since the last optimizer step."""

    def __init__(self, gradients: Gradients) -> None:
        self._gradients = gradients
        self._records: list[MicrobatchRecord] = []
        self._dropped: list[Place] = []
        self._tokens = 0

    @property
    def is_empty(self) -> bool:
        """Whether no gradient is here."""
        return not self._gradients.count

    def check_room(self) -> None:
        """Raise ``TooBusy`` when no more gradients fit into this step."""
        if self._gradients.count >= MICROBATCHES_MAX:
            raise TooBusy(f"a step counts at most {MICROBATCHES_MAX} micro-batches")

    def add(self, grad_P: Tensor, tokens: int, record: MicrobatchRecord) -> None:
        """Count a micro-batch of ``tokens`` tokens.

        Raises ``PeerFault``, changing nothing, for a gradient that is not finite or far too large.
        """
        self._gradients.add(grad_P)
        self._records.append(record)
        self._tokens += tokens

    def drop(self, place: Place) -> None:
        """Note a micro-batch that was sent and never answered."""
        if len(self._dropped) < DROPPED_MAX:
            self._dropped.append(place)

    def mean(self) -> Tensor | None:
        """The mean gradient_P; None when there was none, or it went with the device that held it."""
        try:
            return None if self.is_empty else self._gradients.mean()
        except DeviceLost:
            return None

    def take(self) -> Gathered:
        """What was gathered, sorted: the order of arrival leaves no trace. The next step begins empty."""
        # Taken first and read afterwards: drops are noted from another thread.
        records, self._records = self._records, []
        dropped, self._dropped = self._dropped, []
        tokens, self._tokens = self._tokens, 0
        self._gradients.clear()
        by_place = sorted(records, key=lambda record: record.place)
        return Gathered(tuple(by_place), tuple(sorted(dropped)), tokens)
