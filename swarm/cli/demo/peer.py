"""Prepare the demo: homes, keys, one genesis, the settings of each node, a folder for the logs.

Shell: writes files below one folder and nothing else.
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from swarm.cli.demo.scenario import Role
from swarm.config.load import genesis_of
from swarm.config.schema import RunFile
from swarm.host.identity import load_identity
from swarm.primitives.codec import encode
from swarm.primitives.crypto import SecretKey, peer_name
from swarm.types import PeerId

LAUNCHER_BALANCE = 1_000_000_000_000
"""Balance of the launcher, which pays for the run; the others earn."""
PEER_BALANCE = 1_000_000
"""Balance of every other peer: enough for all fees of a few minutes."""
STAKE = 1_000_000
"""Stake of each validator, one vote each, and of the cheating peers, which so have something to lose.

Peers with a stake are drawn to check: these six. Two of them on average replay a segment, however many there
are; more would only move the work to the replicas, which train on the same two cores.
"""
NODE_FILE = """# One peer of the demo: on this machine only.
listen = ["127.0.0.1:0"]
api_port = 0
solve = {solve}
validate = {validate}
verify = {verify}
stake = {stake}
"""
"""Settings of one peer.

The cheating peers do not check others: the replays of one would be as false as its training, and accuse honest
peers.
"""


@dataclass(frozen=True, slots=True)
class DemoPeer:
    """Peer of the demo with its home."""

    role: Role
    home: Path
    log: Path
    peer: PeerId

    @property
    def stake(self) -> int:
        """Stake that it can lose."""
        return STAKE if self.role.validates or self.role.cheats else 0

    @property
    def name(self) -> str:
        """Human-readable name of the peer."""
        return peer_name(self.peer)


def prepare_peers(folder: Path, roles: tuple[Role, ...], file: RunFile) -> list[DemoPeer]:
    """Write the files that the peers start from; return the peers in the order of their roles."""
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    peers = list[DemoPeer]()
    for role in roles:
        home = folder / role.folder
        secret: SecretKey = load_identity(home)
        peer = DemoPeer(role, home, folder / "logs" / f"{role.folder}.log", secret.peer)
        node_file = NODE_FILE.format(
            solve=str(role.solves).lower(),
            validate=str(role.validates).lower(),
            verify=str(not role.cheats).lower(),
            stake=peer.stake if role.cheats else 0,
        )
        (home / "node.toml").write_text(node_file, encoding="utf-8")
        peers.append(peer)
    genesis = genesis_of(
        file,
        validators={peer.peer: peer.stake for peer in peers if peer.role.validates},
        accounts={peer.peer: _balance(peer) for peer in peers},
        seed=secrets.token_bytes(32),
    )
    for peer in peers:
        (peer.home / "genesis.bin").write_bytes(encode(genesis))
    return peers


def _balance(peer: DemoPeer) -> int:
    """Return the balance of a peer; what the cheating peer keeps is too little to stake a second time."""
    if peer.role.cheats:
        return peer.stake + PEER_BALANCE // 2
    return LAUNCHER_BALANCE if peer.role.is_launcher else PEER_BALANCE
