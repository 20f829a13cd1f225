"""Which throws of the dice make this node a verifier, and of which window.

Core: a proof is a function of key and record, made once and remembered.
"""

from collections import OrderedDict
from dataclasses import dataclass

from swarm.crypto import SecretKey
from swarm.ledger.check_records import Draw
from swarm.ledger.records import SegmentRecord
from swarm.ledger.sampling import drawn_window, prove_draw
from swarm.ledger.state import segment_key
from swarm.spec import RunSpec
from swarm.types import Digest

PROOFS_MAX = 4096
"""Throws remembered: each costs half a millisecond, and a busy run has some hundreds open at once."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One throw that chose this node."""

    attempt: int
    window: int
    proof: bytes


class Draws:
    """This node's dice."""

    def __init__(self, secret: SecretKey, chain: Digest) -> None:
        self._secret, self._chain = secret, chain
        self._proved: OrderedDict[tuple[bytes, int], tuple[int | None, bytes]] = OrderedDict()

    def of(self, record: SegmentRecord, spec: RunSpec) -> tuple[Drawn, ...]:
        """The throws for this segment that chose us; eligibility is ``check_eligible``'s to say."""
        found = list[Drawn]()
        for attempt, draw in enumerate(record.draws):
            window, proof = self._throw(draw, record, spec)
            if window is not None:
                found.append(Drawn(attempt, window, proof))
        return tuple(found)

    def _throw(self, draw: Draw, record: SegmentRecord, spec: RunSpec) -> tuple[int | None, bytes]:
        place = segment_key(record.run, record.round, record.stage, record.seat)
        found = self._proved.get((place, draw.height))
        if found is None:
            proof = prove_draw(self._secret, self._chain, draw, record)
            peer = self._secret.peer
            found = drawn_window(self._chain, draw, record, spec, peer, proof), proof
            self._proved[place, draw.height] = found
            if len(self._proved) > PROOFS_MAX:
                self._proved.popitem(last=False)
        return found
