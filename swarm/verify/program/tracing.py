"""Run a program and keep the digests of its values, but not the values.

Core: a machine; what it computes is a function of the program and what is given.

The values of a trace are many times as large as a model. Whoever commits to one, and shows some of it later,
computes it twice instead of keeping it.
"""

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor

from swarm.primitives.merkle import merkle_layers, proof_in, sealed
from swarm.training.model.exact.selftest import trusted_kernels
from swarm.types import Digest
from swarm.verify.program.nodes import Program
from swarm.verify.program.reveal import tree_of


class Traced:
    """The digests of the values of a program that was run, and its outputs; all else is computed again."""

    def __init__(
        self,
        program: Program,
        given: Mapping[str, Tensor],
        watch: Callable[[int, Tensor], Tensor] = lambda _, value: value,
        said: Callable[[int, Tensor], Tensor] = lambda _, value: value,
    ) -> None:
        """Run it; ``watch`` is that of ``Program.run``, and ``said`` changes what is stated of values alone."""
        self.program, self.said = program, said
        self._given, self._watch = given, watch
        alive = dict[int, Tensor]()
        self.roots = [
            tree_of(program.nodes[number], said(number, alive[number])).digest
            for number in self.computing(alive)
        ]
        """Digests of the values of all nodes."""
        self.outputs = {name: alive[number] for name, number in program.outputs.items()}
        self._layers = merkle_layers(self.roots)

    @property
    def root(self) -> Digest:
        """The trace root."""
        return sealed(self._layers[-1][0], len(self.roots))

    def digest(self, name: str) -> Digest:
        """Return the digest of an output."""
        return self.roots[self.program.outputs[name]]

    def path(self, number: int) -> tuple[bytes, ...]:
        """Return the path from the digest of a node to the trace root."""
        return proof_in(self._layers, number)

    def computing(self, alive: dict[int, Tensor]) -> Iterator[int]:
        """Compute all values again, as ``Program.computing`` does."""
        kernels = trusted_kernels().kernels
        return self.program.computing(kernels, self._given, alive, self._watch)
