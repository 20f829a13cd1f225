"""What a node says while it looks for its first peer is plain data."""

from swarm.host.bootstrap import Failed, Progress, Reached, Trying
from swarm.types import PeerId


def test_progress_is_distinguished_by_its_kind() -> None:
    peer = PeerId(bytes(32))
    reports: list[Progress] = [
        Trying(peer, 1),
        Failed(peer, 1, "refused", 1.0),
        Reached(peer, is_first=True),
    ]
    lines = []
    for progress in reports:
        match progress:
            case Trying(attempt=attempt):
                lines.append(f"try {attempt}")
            case Failed(reason=reason):
                lines.append(reason)
            case Reached(is_first=is_first):
                lines.append(f"first {is_first}")
    assert lines == ["try 1", "refused", "first True"]
