"""Which documents are trained on, which are held out, and which are left out.

Core: pure functions and one small machine.

Documents are named by their hash and dealt in the order of their names, so the order in which they were found
does not matter, a document that is there twice counts once, and a limit takes a fair sample.
"""

from swarm.crypto import digest
from swarm.errors import BadConfig
from swarm.types import Digest

SEPARATOR = b"\x00"
"""Stands between two documents: text does not contain it, so a model can learn that one ends."""
TRAIN, HELDOUT = 0, 1


def document_name(document: bytes) -> Digest:
    """What a document is sorted by, and known by when it comes again."""
    return digest("corpus-file", document)


class Split:
    """Deals different documents, in the order of their names, to the two halves."""

    def __init__(self, *, max_bytes: int, heldout_every: int) -> None:
        self._max_bytes = self._room = max_bytes
        self._heldout_every = heldout_every
        self._taken = [0, 0]
        self._place = 0

    def deal(self, document: bytes) -> tuple[int, bytes] | None:
        """(``TRAIN`` or ``HELDOUT``, the text without separators); None when it does not fit any more."""
        place = self._place
        self._place += 1
        text = document.replace(SEPARATOR, b"")
        if len(text) + len(SEPARATOR) > self._room:
            return None
        self._room -= len(text) + len(SEPARATOR)
        half = HELDOUT if place % self._heldout_every == self._heldout_every - 1 else TRAIN
        self._taken[half] += 1
        return half, text

    @property
    def num_taken(self) -> int:
        """Documents in both halves."""
        return sum(self._taken)

    @property
    def num_left_out(self) -> int:
        """Documents that did not fit."""
        return self._place - self.num_taken

    def close(self) -> None:
        """Raise ``BadConfig`` when either half is empty."""
        if all(self._taken):
            return
        found = f"{self._place} different document{'s' * (self._place != 1)}"
        if self.num_left_out and self._place >= self._heldout_every:
            raise BadConfig(
                f"{found} were found, and max_bytes = {self._max_bytes} leaves room for {self.num_taken}:"
                " too little for both halves",
                hint="a higher max_bytes (--max-bytes)",
            )
        raise BadConfig(
            f"{found} {'are' if self._place != 1 else 'is'} too few to hold out one in"
            f" {self._heldout_every}",
            hint="name more text, or a lower heldout_every (--heldout-every)",
        )
