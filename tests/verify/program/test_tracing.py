"""A trace whose values are not kept has the root of one whose values are, and holds few at a time."""

from torch import Tensor

from swarm.primitives.merkle import verify_proof
from swarm.verify.program.reveal import trace_root, value_roots
from swarm.verify.program.tracing import Traced
from tests.verify.program.test_microbatch import computed


def test_its_digests_are_those_of_all_values_and_its_outputs_stay() -> None:
    made = computed("two stages", 1)
    traced = Traced(made.program, made.given)
    assert traced.roots == value_roots(made.program, made.values)
    assert traced.root == trace_root(made.program, made.values)
    for name, number in made.program.outputs.items():
        assert traced.outputs[name].equal(made.values[number])
        assert traced.digest(name) == traced.roots[number]
    for number, digest in enumerate(traced.roots):
        count = len(made.program.nodes)
        verify_proof(traced.root, digest, number, count, traced.path(number))


def test_a_value_that_is_read_no_more_is_dropped() -> None:
    """What a node is computed from is there when it is computed; of all values a part is at any time."""
    made = computed("two stages", 0)
    traced, alive, most = Traced(made.program, made.given), dict[int, Tensor](), 0
    for number in traced.computing(alive):
        assert set(made.program.nodes[number].inputs) <= alive.keys()
        most = max(most, len(alive))
    assert most < len(made.program.nodes) * 2 // 3
    assert set(alive) == set(made.program.outputs.values())
