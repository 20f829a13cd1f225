"""Being too busy is nobody's fault: the sender asks a sibling."""

import pytest

from swarm.errors import PeerFault, Unreachable
from swarm.host.memory_quota import BULK_BYTES_MAX
from swarm.primitives.codec import LONGEST_FRAME_BYTES, replace
from swarm.training.messages import IN_FLIGHT_BYTES, NO_SEAT, TooBusy, in_flight_max, request_of
from tests.training.pipeline import Swarm, a_spec


def test_too_busy_is_a_kind_of_unreachable() -> None:
    assert issubclass(TooBusy, Unreachable)
    assert not issubclass(TooBusy, PeerFault)


def test_a_request_is_for_nobody_until_a_replica_is_chosen() -> None:
    plan = Swarm(a_spec(), replicas=1).plan
    ends = {"stage": 1, "source": 0, "incarnation": 7, "version": 9}
    request = request_of(plan, (0, 3, 1), **ends, payload=b"wire")
    assert request.microbatch_id == (0, 3, 1)
    assert (request.stage, request.source, request.destination) == (1, 0, NO_SEAT)
    assert (request.incarnation, request.version, request.payload) == (7, 9, b"wire")
    assert (request.budget_ms, request.signature) == (0, b"")


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
