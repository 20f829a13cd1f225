"""Find the VRF draws that select this node, as a verifier, a witness or a member of a panel.

Core: a cache of proofs; a proof costs a millisecond and is needed once for each beacon.
"""

from collections import OrderedDict
from dataclasses import dataclass

from swarm.ledger.state.draws import Contest, Draw, Panel
from swarm.ledger.state.records import SegmentRecord
from swarm.ledger.transition.sampling import own_dice, own_witness, prove_draw, selects
from swarm.primitives import vrf
from swarm.primitives.crypto import SecretKey
from swarm.types import Amount, Digest

PROOFS_MAX = 1024
"""VRF proofs in the cache: one for each block in which segments that can be asked for were drawn."""


@dataclass(frozen=True, slots=True)
class SelectedDraw:
    """VRF draw that selected this node."""

    attempt: int
    proof: bytes


class Draws:
    """VRF draws of this node, with a cache of their proofs."""

    def __init__(self, secret: SecretKey, chain: Digest) -> None:
        self._secret, self._chain = secret, chain
        self._proved: OrderedDict[Digest, tuple[bytes, bytes]] = OrderedDict()
        """Proof and output by beacon."""

    def of(self, record: SegmentRecord, stake: Amount) -> tuple[SelectedDraw, ...]:
        """Return the draws that selected this node for a segment, with the stake that makes it eligible."""
        found = list[SelectedDraw]()
        for attempt, draw in enumerate(record.draws):
            proof, beta = self._prove(draw)
            if selects(draw, record, stake, beta):
                found.append(SelectedDraw(attempt, proof))
        return tuple(found)

    def witness(self, record: SegmentRecord, contest: Contest, stake: Amount) -> bytes | None:
        """Return the proof that this node is drawn as a witness of a complaint; None if it is not."""
        assert contest.draw is not None, "its beacon is there"
        proof, beta = self._prove(contest.draw)
        return proof if own_witness(contest, record, stake, beta) else None

    def panel(self, record: SegmentRecord, panel: Panel, stake: Amount) -> tuple[bytes, int] | None:
        """Return the proof and the dice with which this node may sit on a panel; None if it is not drawn."""
        proof, beta = self._prove(panel.draws[-1])
        dice = own_dice(panel, record, stake, beta)
        return None if dice is None else (proof, dice)

    def _prove(self, draw: Draw) -> tuple[bytes, bytes]:
        found = self._proved.get(draw.beacon)
        if found is None:
            proof = prove_draw(self._secret, self._chain, draw)
            found = proof, vrf.output(proof)
            self._proved[draw.beacon] = found
            if len(self._proved) > PROOFS_MAX:
                self._proved.popitem(last=False)
        return found
