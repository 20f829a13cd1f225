"""Convert the two ids of a peer: ours, which is its key, and libp2p's.

Core: pure functions.
"""

from libp2p.peer.id import ID

from swarm.primitives.crypto import parse_peer, peer_text
from swarm.types import PeerId


def peer_of(peer_id: ID) -> PeerId:
    """Return our id of a libp2p peer; raise ``BadEncoding`` if its key is not Ed25519."""
    return parse_peer(peer_id.to_base58())


def id_of(peer: PeerId) -> ID:
    """Return libp2p's id of a peer."""
    return ID.from_base58(peer_text(peer))
