"""The digest of a spec or genesis changes with any of its fields, and with nothing else."""

from typing import Any

import msgspec
import pytest

from swarm.config.load import RunFile, genesis_of, run_spec
from swarm.config.spec import DataSpec, Genesis, RunSpec
from swarm.primitives.codec import decode, encode
from swarm.types import Digest, PeerId

SPEC = run_spec(
    RunFile(),
    data=DataSpec("bytes", Digest(b"t" * 32), 10, Digest(b"h" * 32), 10),
)
GENESIS = genesis_of(RunFile(), validators={PeerId(b"v" * 32): 7}, accounts={}, seed=b"s" * 32)


def variants(whole: Any) -> list[Any]:  # noqa: ANN401  (walks structs of any kind)
    """Copies of a struct, each with one field changed, at any depth."""
    found: list[Any] = []
    for field in whole.__struct_fields__:
        value = getattr(whole, field)
        if isinstance(value, msgspec.Struct):
            changed = variants(value)
        elif isinstance(value, int):
            changed = [value + 1]
        elif isinstance(value, str):
            changed = [value + "x"]
        elif isinstance(value, bytes):
            changed = [bytes(byte ^ 1 for byte in value)]
        else:
            changed = [value[1:] if value else (Digest(b"x" * 32),)]
        found += [msgspec.structs.replace(whole, **{field: one}) for one in changed]
    return found


@pytest.mark.parametrize("one", variants(SPEC))
def test_every_field_of_a_run_is_in_its_name(one: RunSpec) -> None:
    assert one.digest != SPEC.digest


@pytest.mark.parametrize("one", variants(GENESIS))
def test_every_field_of_a_genesis_is_in_the_chain_id(one: Genesis) -> None:
    assert one.chain != GENESIS.chain


def test_what_is_sent_has_the_same_name_where_it_arrives() -> None:
    assert decode(RunSpec, encode(SPEC)).digest == SPEC.digest
    assert decode(Genesis, encode(GENESIS)).chain == GENESIS.chain
