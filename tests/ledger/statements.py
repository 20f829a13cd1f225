"""What a solver signs of a window, without the window: it contradicts whatever it shows on the ledger."""

from swarm.ledger.check_statements import TraceFraud
from swarm.ledger.state.records import SegmentRecord
from swarm.primitives.codec import encode, replace
from swarm.primitives.crypto import SecretKey, digest
from swarm.types import Digest, PeerId
from swarm.verify.spots.proof import trace_fraud
from swarm.verify.spots.statement import SpotStatement


def contradiction_of(
    record: SegmentRecord, key: SecretKey, chain: Digest, run_digest: Digest, window: int = 0
) -> TraceFraud:
    """Return a statement of another claim: it convicts if ``key`` is the solver's, and its claims are shown."""
    unsigned = SpotStatement(
        run=record.run,
        round=record.round,
        stage=record.stage,
        seat=record.seat,
        window=window,
        to=PeerId(bytes(32)),
        claim=digest("lie", b"claim"),
        opened=digest("lie", b"opened"),
        traces=digest("lie", b"traces"),
        num_traces=1,
        signature=b"",
    )
    signature = key.sign("spot", chain, run_digest, encode(unsigned))
    return trace_fraud(record, replace(unsigned, signature=signature))
