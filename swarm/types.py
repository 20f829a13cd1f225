"""Names for numbers and bytes that must not be mixed.

Core: pure data.
"""

from typing import NewType

PeerId = NewType("PeerId", bytes)
"""A peer: its raw 32-byte Ed25519 public key. ``swarm.primitives.crypto.peer_text`` gives the 12D3Koo...
form.
"""

Digest = NewType("Digest", bytes)
"""A 32-byte SHA-256 or BLAKE3 hash."""

Height = NewType("Height", int)
"""A ledger height; the genesis block is 0."""

View = NewType("View", int)
"""A consensus view; every view has one leader."""

RoundIndex = NewType("RoundIndex", int)
"""A training round of a run, from 0."""

StageIndex = NewType("StageIndex", int)
"""A pipeline stage, from 0 (embedding) to ``num_stages - 1`` (head and loss)."""

RunIndex = NewType("RunIndex", int)
"""The number the ledger gave a run, from 1."""

Amount = NewType("Amount", int)
"""An amount of the smallest unit."""

Bytes = bytes | bytearray | memoryview
"""Bytes that nobody writes to, wherever they lie: what is large is passed on as a view and not copied."""

NO_DIGEST = Digest(bytes(32))
"""Stands where a hash has nothing to cover, such as the inbox of a seat that received nothing."""
