"""Define the frames of the news protocol and their bounds.

Core: pure functions.

One kind of frame carries everything that a peer has for another at one time; its answer is empty. A notice is
named by the hash of its topic and its bytes, so that nobody can give one statement two names.
"""

from collections.abc import Sequence

from swarm.errors import BadEncoding
from swarm.primitives.codec import Message, decode, encode
from swarm.primitives.crypto import fast_digest
from swarm.types import Digest

PROTOCOL = "/swarm/news/1"
NOTICE_BYTES_MAX = 64 << 10
"""Bytes of a notice: those of the longest transaction."""
NOTICES_MAX = 256
"""Notices in one frame."""
BODY_BYTES_MAX = 512 << 10
"""Bytes of the notices of one frame, the last one left out."""
ID_BYTES = 32
IDS_MAX = 1024
"""Names that one frame offers, and that it asks for."""
TOPICS_MAX = 16
"""Topics of one peer: what its ledger takes, and its runs."""
TOPIC_CHARS_MAX = 64
REST_MAX_S = 600
"""Longest rest that a peer can impose on us."""
FRAME_BYTES_MAX = (
    BODY_BYTES_MAX + NOTICE_BYTES_MAX + 128 * NOTICES_MAX + 2 * IDS_MAX * ID_BYTES + (16 << 10)
)


class Notice(Message, frozen=True):
    """One statement on a topic."""

    topic: str
    data: bytes


class Offer(Message, frozen=True):
    """Names of notices that the sender has (IHAVE in GossipSub)."""

    topic: str
    names: bytes
    """Names, 32 bytes each."""


class Cut(Message, frozen=True):
    """End of a link of the mesh (PRUNE): for ``rest_s`` seconds it must not be asked for again."""

    topic: str
    rest_s: int


class Frame(Message, frozen=True):
    """All that a peer has for another at one time."""

    topics: tuple[str, ...] | None
    """All topics that the sender takes; None if it has said so before."""
    notices: tuple[Notice, ...]
    offers: tuple[Offer, ...]
    wanted: bytes
    """Names of notices that the sender asks for (IWANT), 32 bytes each."""
    grafts: tuple[str, ...]
    """Topics in which the sender sends us everything from now on, and wants the same (GRAFT)."""
    cuts: tuple[Cut, ...]


def notice_name(topic: str, data: bytes) -> Digest:
    """Return the name of a notice."""
    return fast_digest("news", topic.encode("utf-8"), data)


def split_names(names: bytes) -> list[Digest]:
    """Return names that were written one after the other."""
    return [Digest(names[at : at + ID_BYTES]) for at in range(0, len(names), ID_BYTES)]


def parse_frame(data: bytes) -> Frame:
    """Return a frame that is within its bounds; raise ``BadEncoding`` for any other."""
    frame = decode(Frame, data, limit=FRAME_BYTES_MAX)
    topics = [*(frame.topics or ()), *frame.grafts, *(cut.topic for cut in frame.cuts)]
    topics += [offer.topic for offer in frame.offers]
    lists: tuple[Sequence[object], ...] = (
        frame.topics or (),
        frame.grafts,
        frame.cuts,
        frame.offers,
    )
    if any(len(one) > TOPICS_MAX for one in lists):
        raise BadEncoding(f"more than {TOPICS_MAX} topics in a frame of news")
    if any(not 0 < len(topic) <= TOPIC_CHARS_MAX for topic in topics):
        raise BadEncoding("a topic without a name, or with too long a one")
    if any(not cut.rest_s >= 0 for cut in frame.cuts):
        raise BadEncoding("a rest of less than no time")
    if len(frame.notices) > NOTICES_MAX:
        raise BadEncoding(f"more than {NOTICES_MAX} notices in a frame")
    if any(len(notice.data) > NOTICE_BYTES_MAX for notice in frame.notices):
        raise BadEncoding(f"a notice of more than {NOTICE_BYTES_MAX} bytes")
    names = [frame.wanted, b"".join(offer.names for offer in frame.offers)]
    if any(len(one) % ID_BYTES for one in (frame.wanted, *(o.names for o in frame.offers))):
        raise BadEncoding("half a name of a notice")
    if any(len(one) > IDS_MAX * ID_BYTES for one in names):
        raise BadEncoding(f"more than {IDS_MAX} names in a frame of news")
    return frame


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    return encode(frame)
