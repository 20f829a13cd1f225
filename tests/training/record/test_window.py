"""A window names all that its replay needs besides itself."""

from swarm.primitives.codec import replace
from swarm.training.record.window import AnchorSet, anchors_named
from swarm.types import Digest
from tests.training.logs import recorded


def test_anchors_are_those_of_the_start_and_those_that_came() -> None:
    data = recorded(0)[0]
    assert anchors_named(data) == {data.start.anchor_root}
    new = Digest(b"\x07" * 32)
    assert anchors_named(replace(data, events=(AnchorSet(new), *data.events))) == {
        data.start.anchor_root,
        new,
    }
