"""Add to a program the values that bytes carry, and the bytes that carry values.

Core: functions of a builder.

The bytes are nodes of their own, since they are what is signed, hashed and committed: of activations and
gradients in the wire format that a run names (gossip/codecs/activations.py), of fragments in the codec of a
trade (gossip/codecs/int8.py, int4.py).
"""

from dataclasses import dataclass
from math import prod

from swarm.gossip.codecs import int4, int8
from swarm.gossip.codecs.int8 import block_count
from swarm.gossip.trade.messages import Codec
from swarm.verify.program.nodes import Builder, Node, Value
from swarm.verify.program.operators import Attributes
from swarm.verify.program.wire_operators import BFLOAT16, FLOAT16, PEAK_BYTES


@dataclass(frozen=True, slots=True)
class Form:
    """An encoding: by the operators of ``name``, or in blocks of levels."""

    name: str
    item_bytes: int = 0
    """Bytes of a value; 0 in blocks."""
    most: int = 0
    """Largest level of a block."""
    per_byte: int = 1
    peak: int = FLOAT16

    @property
    def is_blocks(self) -> bool:
        """True for blocks of levels."""
        return self.most > 0

    @property
    def attributes(self) -> Attributes:
        """Attributes of the operators of bytes."""
        return (self.most, self.per_byte, self.peak) if self.is_blocks else ()

    def num_bytes(self, numel: int) -> int:
        """Return the bytes of ``numel`` values."""
        if self.is_blocks:
            return PEAK_BYTES * block_count(numel) + -(-numel // self.per_byte)
        return self.item_bytes * numel


WIRES = {
    "bf16": Form("bfloat16", 2),
    "int8": Form("block", most=int8.LEVELS, peak=BFLOAT16),
    "int4": Form("block", most=int4.LEVELS, per_byte=2, peak=BFLOAT16),
}
"""By the name that a run gives its activations."""
CODECS = {
    Codec.INT8: Form("block", most=int8.LEVELS),
    Codec.INT4: Form("block", most=int4.LEVELS, per_byte=2),
    Codec.INT3: Form("block", most=int4.INT3_LEVELS, per_byte=2),
    Codec.BF16: Form("bfloat16", 2),
    Codec.F32: Form("float32", 4),
}
"""Of fragments; those in blocks carry what is added to an anchor."""


def given_bytes(b: Builder, name: str, form: Form, numel: int, purpose: str) -> Value:
    """Add the bytes of ``numel`` values as an input, a message that is hashed under ``purpose``."""
    return b.given(name, form.num_bytes(numel), dtype="uint8", purpose=purpose)


def values_in(b: Builder, data: Value, form: Form, *shape: int) -> Value:
    """Decode bytes to values of a shape."""
    return b.append(Node(f"{form.name}_values", (data.number,), shape, form.attributes))


def peaks_of(b: Builder, x: Value, form: Form) -> Value:
    """Return the peaks of the blocks of some values, rounded as they are sent."""
    return b.put("block_peaks", (block_count(prod(x.shape)),), x, peak=form.peak)


def bytes_of(b: Builder, x: Value, form: Form, purpose: str, peaks: Value | None = None) -> Value:
    """Encode values as the bytes of a message that is hashed under ``purpose``; ``peaks``: if already known."""
    operands = [x, peaks or peaks_of(b, x, form)] if form.is_blocks else [x]
    return b.append(
        Node(
            operator=f"{form.name}_bytes",
            inputs=tuple(operand.number for operand in operands),
            shape=(form.num_bytes(prod(x.shape)),),
            attributes=form.attributes,
            dtype="uint8",
            purpose=purpose,
        )
    )
