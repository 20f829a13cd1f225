"""Define how a verifier asks a solver for the spot check of a window.

Core: frozen messages and pure checks.

    SpotRequest without a seed --> SpotFound: the statement; the blob is what it has the digest of (SpotOpened)
    SpotRequest with a seed    --> SpotFound: the blob is what the seed asks for (SpotShown)
    either                     --> SpotWorking: it is being computed, ask again | SpotMissing: not here

The seed comes only after the statement, so nobody who signs one knows where it is looked at.
"""

from typing import cast

from swarm.errors import BadEncoding
from swarm.ledger.check_statements import LEAVES_MAX, check_seat, within
from swarm.primitives.codec import Message, decode
from swarm.training.record.window import WindowKey
from swarm.types import Digest, RoundIndex, RunIndex, StageIndex
from swarm.verify.spots.statement import OPENED_BYTES_MAX, STATEMENT_BYTES_MAX, SpotStatement

SPOT_PROTOCOL = "/swarm/spot/1"
REQUEST_BYTES_MAX = 128
REPLY_BYTES_MAX = STATEMENT_BYTES_MAX + 128
SEED_BYTES = 32
SHOWN_BYTES_MAX = 64 << 20
"""Bytes of everything that a seed asks for; about 23 MB at any size of the model."""


class SpotRequest(Message, frozen=True):
    """Request for a statement about a window, or for what a seed asks for under it."""

    run: RunIndex
    round: RoundIndex
    stage: StageIndex
    seat: int
    window: int
    seed: bytes
    """Empty for the statement."""

    @property
    def key(self) -> WindowKey:
        """Key of the window."""
        return WindowKey(self.run, self.round, self.stage, self.seat, self.window)


class SpotFound(Message, frozen=True, tag=1):
    """Answer that the wanted blob is there."""

    statement: SpotStatement
    root: Digest
    num_bytes: int


class SpotWorking(Message, frozen=True, tag=2):
    """Answer that the wanted blob is being computed, or waits for that."""


class SpotMissing(Message, frozen=True, tag=3):
    """Answer that no such window is here."""


SpotReply = SpotFound | SpotWorking | SpotMissing


def request_of(key: WindowKey, seed: bytes) -> SpotRequest:
    """Return the request for a statement about a window, or for what a seed asks for."""
    return SpotRequest(
        run=key.run,
        round=key.round,
        stage=key.stage,
        seat=key.seat,
        window=key.window,
        seed=seed,
    )


def decode_request(raw: bytes) -> SpotRequest:
    """Decode a request; raise ``BadEncoding``."""
    asked = decode(SpotRequest, raw, limit=REQUEST_BYTES_MAX)
    check_seat(asked.run, asked.round, asked.stage, asked.seat)
    within("window", asked.window, 0, LEAVES_MAX - 1)
    if len(asked.seed) not in {0, SEED_BYTES}:
        raise BadEncoding(f"a seed of {len(asked.seed)} bytes")
    return asked


def decode_reply(raw: bytes, asked: SpotRequest) -> SpotReply:
    """Decode a reply and check its bounds; raise ``BadEncoding``."""
    reply = decode(cast("type[SpotReply]", SpotReply), raw, limit=REPLY_BYTES_MAX)
    if isinstance(reply, SpotFound):
        if reply.statement.key != asked.key:
            raise BadEncoding("a statement about another window")
        within("root bytes", len(reply.root), 32, 32)
        most = SHOWN_BYTES_MAX if asked.seed else OPENED_BYTES_MAX
        within("blob bytes", reply.num_bytes, 1, most)
    return reply
