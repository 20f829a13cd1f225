"""Read the hello of a new connection and decide whether to keep the connection.

Core: pure functions.

The side that dialled says hello first and the other answers; nothing else is served before that. A peer on
another network is told apart here, once, so that no other package has to ask.
"""

from swarm.errors import BadEncoding
from swarm.host.addresses import ADDRESS_CHARS_MAX, ADDRESSES_MAX
from swarm.primitives.codec import Message, decode

PROTOCOL = "/swarm/hello/2"
CHAIN_BYTES = 16
SESSION_BYTES = 8
HELLO_BYTES_MAX = 2048
"""Bytes of a hello: eight addresses of 160 characters, a version, and the rest."""
VERSION_CHARS_MAX = 32
CLOCK_S_MAX = 1 << 40


class Hello(Message, frozen=True):
    """Statement of a peer about itself; only its key, which the transport proved, is to be trusted."""

    version: str
    chain: bytes
    """First 16 bytes of the genesis digest."""
    session: bytes
    """8 random bytes drawn when the process started: a new value means that the peer restarted."""
    addresses: tuple[str, ...]
    """Multiaddr texts at which it says it can be dialled."""
    clock_s: int
    """Seconds since 1970, by its clock. Nothing is decided by it: it tells people whose clock is wrong."""


def parse_hello(data: bytes) -> Hello:
    """Read a hello; raise ``BadEncoding`` if a field is out of bounds."""
    hello = decode(Hello, data, limit=HELLO_BYTES_MAX)
    if len(hello.chain) != CHAIN_BYTES or len(hello.session) != SESSION_BYTES:
        raise BadEncoding("a hello names 16 bytes of chain and 8 of session")
    if len(hello.version) > VERSION_CHARS_MAX or len(hello.addresses) > ADDRESSES_MAX:
        raise BadEncoding("a hello this long")
    if any(len(address) > ADDRESS_CHARS_MAX for address in hello.addresses):
        raise BadEncoding("an address this long")
    if not 0 <= hello.clock_s < CLOCK_S_MAX:
        raise BadEncoding("a clock out of bounds")
    return hello


OTHER_NETWORK = "is on another network"
"""Start of the reason to part from a peer with another genesis."""


def reason_to_part(mine: Hello, theirs: Hello) -> str:
    """Return why not to stay connected, as the end of a sentence about the peer; empty to stay."""
    if mine.chain != theirs.chain:
        seen, wanted = theirs.chain.hex()[:8], mine.chain.hex()[:8]
        return f"{OTHER_NETWORK} (genesis {seen}, ours is {wanted})"
    return ""
