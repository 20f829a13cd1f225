"""Being too busy is nobody's fault: the sender asks a sibling."""

from swarm.errors import PeerFault, Unreachable
from swarm.training.messages import wire_digest
from swarm.training.outgoing import Outgoing, TooBusy
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
