"""A verifier that does not look: it asks for a statement, and finds it right."""

from swarm.cli.main import main
from swarm.verify.answers import Sought
from swarm.verify.spots.checking import Spot, result_in
from swarm.verify.spots.service import SpotChecks, SpotResult
from swarm.verify.spots.statement import decode_opened


async def believe(self: SpotChecks, sought: Sought, spot: Spot) -> SpotResult:
    """Answer what the statement says, without a seed."""
    del spot
    found = await self._ask(sought, b"")
    opened = decode_opened(await self._fetched(found, sought.record.peer))
    return SpotResult(result_in(opened), None, found.statement, opened)


if __name__ == "__main__":
    SpotChecks._checked = believe  # type: ignore[method-assign]
    main()
