"""Keep the genesis of the network that a home belongs to, and read it without loading a library.

Shell: one file of the home. A module of its own, since the command line reads it before torch is loaded.
"""

from pathlib import Path

from swarm.config.spec import Genesis
from swarm.errors import BadEncoding, Corrupt
from swarm.primitives.codec import decode, encode

GENESIS_FILE = "genesis.bin"
GENESIS_BYTES_MAX = 1 << 20
"""As long as one that peers send."""


def saved_genesis(home: Path) -> Genesis | None:
    """Read the genesis of the network of a home; None for a home that belongs to none yet.

    Raises ``Corrupt`` when the file holds something else.
    """
    path = home / GENESIS_FILE
    if not path.exists():
        return None
    try:
        return decode(Genesis, path.read_bytes(), limit=GENESIS_BYTES_MAX)
    except BadEncoding as error:
        raise Corrupt(f"{path} is damaged: {error}", hint=f"mv {path} {path}.damaged") from None


def save_genesis(home: Path, genesis: Genesis) -> None:
    """Write the genesis beside the store, for people and for tools."""
    (home / GENESIS_FILE).write_bytes(encode(genesis))
