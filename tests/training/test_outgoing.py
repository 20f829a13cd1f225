"""Being too busy is nobody's fault: the sender asks a sibling."""

import pytest

from swarm.errors import PeerFault, Unreachable
from swarm.host.memory_quota import BULK_BYTES_MAX
from swarm.primitives.codec import LONGEST_FRAME_BYTES, replace
from swarm.training.messages import IN_FLIGHT_BYTES, Outgoing, TooBusy, in_flight_max, wire_digest
from tests.training.pipeline import Swarm, a_spec


def test_too_busy_is_a_kind_of_unreachable() -> None:
    assert issubclass(TooBusy, Unreachable)
    assert not issubclass(TooBusy, PeerFault)


def test_an_outgoing_microbatch_carries_its_coordinates() -> None:
    plan = Swarm(a_spec(), replicas=1).plan
    wire = wire_digest(b"wire")
    out = Outgoing(plan, 0, 3, 1, 1, 0, 7, 9, b"wire", wire, 2.0)
    assert (out.origin, out.step, out.microbatch, out.stage) == (0, 3, 1, 1)
    assert (out.incarnation, out.version, out.payload, out.wire) == (7, 9, b"wire", wire)


@pytest.mark.rule("T12b")
def test_an_origin_starts_as_many_as_every_peer_can_hold_for_all_origins() -> None:
    small = a_spec()
    assert in_flight_max(small) > small.microbatches_per_step, "nothing waits in a small run"
    wide = replace(small.model, hidden_size=4096, seq_len=1024)
    large = replace(small, microbatch_size=1, num_stages=4, model=wide)
    assert in_flight_max(large) == 8
    assert 2 * in_flight_max(large) * LONGEST_FRAME_BYTES < BULK_BYTES_MAX
    assert IN_FLIGHT_BYTES == 64 << 20
    assert in_flight_max(replace(large, num_stages=6)) == 12, "two for every stage"
