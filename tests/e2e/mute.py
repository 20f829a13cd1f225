"""A solver that serves none of its windows: the ordinary program, whose manifests are never there."""

from swarm.cli.main import main
from swarm.primitives.codec import encode
from swarm.types import PeerId
from swarm.verify.logs import Logs
from swarm.verify.manifest import WindowMissing


async def say_nothing(self: Logs, peer: PeerId, raw: bytes) -> bytes:
    """Whatever is asked for is not here."""
    del self, peer, raw
    return encode(WindowMissing())


if __name__ == "__main__":
    Logs._serve = say_nothing  # type: ignore[method-assign]
    main()
