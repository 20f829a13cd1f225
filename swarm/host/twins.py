"""Tell two processes with one key from a restart, and which of the two is to stop.

Core: messages, and pure functions of them; a neighbour that both are connected to carries them.

    neighbour --what is your nonce?--> each of the two --16 random bytes--> neighbour
    neighbour --both nonces--> each: signs them, with its session and for how long it has run
    neighbour --both signatures--> each: the other one lives, and the younger stops

Who sees another session in the hello of a peer asks both connections. A process that has ended signs nothing,
so a restart is none of this; and since each signature is over a nonce of the one that reads it, no neighbour
can make up a twin, or use an old signature. Who has the key can make its holder stop by it, and do worse: it
is the holder that is told.

Source: unilateral authentication by challenge and response, ISO/IEC 9798-3; rule H22.
"""

from collections.abc import Callable
from dataclasses import dataclass

from swarm.errors import BadEncoding, BadSignature, OutOfTurn
from swarm.host.handshake import SESSION_BYTES
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import SIGNATURE_BYTES, SecretKey, verify
from swarm.types import PeerId

PROTOCOL = "/swarm/twin/1"
NONCE_BYTES = 16
ASK_BYTES_MAX = 512
NONCES_MAX = 8
"""Nonces that are good at a time; each is for one neighbour's question."""
NONCE_S = 15.0
UPTIME_MS_MAX = 1 << 48
PURPOSE = "twin"


class Life(Message, frozen=True):
    """Sign of life of a process: that it has the key, and since when it runs."""

    session: bytes
    uptime_ms: int
    signature: bytes
    """Over both nonces, the session and the uptime, by the key."""


class TwinAsk(Message, frozen=True):
    """Question of a neighbour: for a nonce, for a sign of life over two nonces, or none but both signs."""

    nonces: tuple[bytes, ...]
    lives: tuple[Life, ...]


@dataclass(frozen=True, slots=True)
class Twin:
    """Another process with the key of this one."""

    session: bytes
    uptime_s: int
    is_older: bool
    """True if it has run for longer: this one is to stop."""


def parse_ask(data: bytes) -> TwinAsk:
    """Read a question; raise ``BadEncoding`` if it is none of the three."""
    ask = decode(TwinAsk, data, limit=ASK_BYTES_MAX)
    if (len(ask.nonces), len(ask.lives)) not in {(0, 0), (2, 0), (2, 2)}:
        raise BadEncoding("two nonces, and no or two signs of life")
    if any(len(nonce) != NONCE_BYTES for nonce in ask.nonces):
        raise BadEncoding("a nonce of another length")
    for life in ask.lives:
        _check_life(life)
    return ask


def parse_life(data: bytes) -> Life:
    """Read a sign of life; raise ``BadEncoding`` if a field is out of bounds."""
    life = decode(Life, data, limit=ASK_BYTES_MAX)
    _check_life(life)
    return life


def _check_life(life: Life) -> None:
    if len(life.session) != SESSION_BYTES or len(life.signature) != SIGNATURE_BYTES:
        raise BadEncoding("a session or a signature of another length")
    if not 0 <= life.uptime_ms < UPTIME_MS_MAX:
        raise BadEncoding("an uptime out of bounds")


def is_proved(peer: PeerId, chain16: bytes, ask: TwinAsk) -> bool:
    """Return True if both signs of life are by the key of ``peer``, of two processes."""
    first, second = ask.lives
    if first.session == second.session:
        return False
    try:
        for life in ask.lives:
            verify(peer, life.signature, PURPOSE, *_signed(chain16, ask.nonces, life))
    except BadSignature:
        return False
    return True


def older_of(ask: TwinAsk) -> Life:
    """Return the sign of life of the process that runs for longer: both sides and the neighbour agree on it."""
    return max(ask.lives, key=lambda life: (life.uptime_ms, life.session))


def _signed(chain16: bytes, nonces: tuple[bytes, ...], life: Life) -> tuple[bytes, ...]:
    return (chain16, *nonces, life.session, life.uptime_ms.to_bytes(8, "big"))


class TwinWatch:
    """One side: hands out nonces, signs that it lives, and learns of another that does."""

    def __init__(
        self, secret: SecretKey, chain16: bytes, session: bytes, dice: Callable[[int], bytes]
    ) -> None:
        self._secret, self._chain16, self._session, self._dice = secret, chain16, session, dice
        self._nonces = dict[bytes, float]()
        """Time at which each nonce was handed out."""

    def answer(self, data: bytes, uptime_s: float) -> tuple[bytes, Twin | None]:
        """Return the reply to a neighbour's question, and the other process with our key, if it proves one.

        Raises ``BadEncoding`` for junk, and ``OutOfTurn`` where no nonce of ours is in it.
        """
        ask = parse_ask(data)
        for old in [old for old, at_s in self._nonces.items() if uptime_s - at_s > NONCE_S]:
            del self._nonces[old]
        if not ask.nonces:
            nonce = self._dice(NONCE_BYTES)
            self._nonces[nonce] = uptime_s
            if len(self._nonces) > NONCES_MAX:
                del self._nonces[next(iter(self._nonces))]
            return nonce, None
        if self._nonces.keys().isdisjoint(ask.nonces):
            raise OutOfTurn("none of these nonces is ours, or it is too old")
        if not ask.lives:
            return encode(self._life(ask.nonces, uptime_s)), None
        return b"", self._twin(ask)

    def _life(self, nonces: tuple[bytes, ...], uptime_s: float) -> Life:
        unsigned = Life(self._session, round(uptime_s * 1_000), b"")
        signature = self._secret.sign(PURPOSE, *_signed(self._chain16, nonces, unsigned))
        return Life(unsigned.session, unsigned.uptime_ms, signature)

    def _twin(self, ask: TwinAsk) -> Twin | None:
        others = [life for life in ask.lives if life.session != self._session]
        if len(others) != 1 or not is_proved(self._secret.peer, self._chain16, ask):
            return None
        other = others[0]
        return Twin(other.session, other.uptime_ms // 1_000, older_of(ask) == other)
