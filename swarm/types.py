"""Distinct types for numbers and bytes that must not be mixed.

Core: pure data.
"""

from typing import NewType

PeerId = NewType("PeerId", bytes)
"""Id of a peer: its raw 32-byte Ed25519 public key. ``swarm.primitives.crypto.peer_text`` gives the 12D3Koo...
form.
"""

Digest = NewType("Digest", bytes)
"""32-byte SHA-256 or BLAKE3 hash."""

Height = NewType("Height", int)
"""Ledger height; the genesis block is 0."""

View = NewType("View", int)
"""Consensus view; every view has one leader."""

RoundIndex = NewType("RoundIndex", int)
"""Training round of a run, from 0."""

StageIndex = NewType("StageIndex", int)
"""Pipeline stage, from 0 (embedding) to ``num_stages - 1`` (head and loss)."""

RunIndex = NewType("RunIndex", int)
"""Number that the ledger gave a run, from 1."""

Amount = NewType("Amount", int)
"""Amount of the smallest unit."""

Bytes = bytes | bytearray | memoryview
"""Bytes that are not written to, in any buffer: large ones are passed on as a view and not copied."""

NO_DIGEST = Digest(bytes(32))
"""Placeholder of a hash that covers nothing, such as the inbox of a seat that received nothing."""
