"""What a node says while it looks for its first peer is plain data."""

from swarm.host.bootstrap import Failed, Progress, Reached, Trying
from swarm.types import PeerId


def test_progress_is_told_apart_by_its_kind() -> None:
    peer = PeerId(bytes(32))
    said: list[Progress] = [
        Trying(peer, 1),
        Failed(peer, 1, "refused", 1.0),
        Reached(peer, is_first=True),
    ]
    words = []
    for progress in said:
        match progress:
            case Trying(attempt=attempt):
                words.append(f"try {attempt}")
            case Failed(reason=reason):
                words.append(reason)
            case Reached(is_first=is_first):
                words.append(f"first {is_first}")
    assert words == ["try 1", "refused", "first True"]
