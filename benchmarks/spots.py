"""Measure what one spot check costs its verifier at the shapes of the packaged runs: a part of ``verify``.

The programs are those of the runs of 125M, 1.3B and 6.8B parameters, with exact numerics: a micro-batch and an
update of a middle stage, or of the only one. What a verifier gets is made here without computing the whole: the
drawn elements are right, for operands of random values, and everything beside them is a random hash. So every
byte is checked that a real check has, at real sizes, by the same code; no machine here could hold the trace of
an update of 6.8B.

*Check* is all from the bytes of what is shown: decoding, openings, paths, elements. The baseline, in turns with
it, is the replay of a segment of the demo, the other way to check. Processor time of one thread.
"""

import statistics
import time
from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
from torch import Tensor

from benchmarks.checking import Bench
from benchmarks.common import Outcome, say, spread
from swarm.config.load import parse_run_file, planned_spec
from swarm.config.resources import packaged_file
from swarm.config.spec import RunSpec
from swarm.config.tolerance import SPOT_ITEMS
from swarm.primitives.codec import decode, encode
from swarm.primitives.crypto import fast_digest
from swarm.primitives.merkle import merkle_layers, proof_in, sealed
from swarm.primitives.openings import Content, Opening, Place, children, covered, is_leaf, lead
from swarm.primitives.openings import lead_from_data as leaf_hash_of
from swarm.primitives.randomness import stream
from swarm.types import NO_DIGEST, Digest, RoundIndex, StageIndex
from swarm.verify.program.cases import Facts, microbatch_program_of, step_numbers, update_program_of
from swarm.verify.program.game import Case
from swarm.verify.program.nodes import Node, Program
from swarm.verify.program.reveal import (
    Operand,
    Reveal,
    index_of,
    leaves_of,
    value_bytes,
    values_of,
)
from swarm.verify.spots.checking import ShownTrace, SpotShown, Wanted, find_false_in
from swarm.verify.spots.elements import Item, ShownItem, drawn

RUNS = {"125m": "run-125m.toml", "1b3": "run-1b3.toml", "6b8": "run-6b8.toml"}
NAMES = {"125m": "overhead_small", "1b3": "overhead_medium", "6b8": "overhead_large"}
SEEN = 1_000
"""Steps that the moments have seen."""
BASELINE_STEPS = 20
"""Steps of a segment of the demo that the baseline replays, of both stages."""


def measure_spots(outcome: Outcome, quick: bool) -> None:
    """Fill ``check_s_*``, ``check_mb_*`` and ``overhead_*``, the last over the baseline."""
    repetitions, items = (1, 128) if quick else (5, SPOT_ITEMS)
    outcome.parameters |= {"spot_items": items, "spot_repetitions": repetitions}
    checks = {name: Check(spec_of(file), items) for name, file in RUNS.items()}
    bench = Bench(BASELINE_STEPS)
    windows, _ = bench.commit()
    taken: dict[str, list[float]] = {name: [] for name in ("replay", *RUNS)}
    for number in range(repetitions + 1):
        for name, seconds in taken.items():
            began = time.thread_time()
            if name == "replay":
                bench.replay(windows)
            else:
                checks[name].run()
            if number:  # The first time warms caches.
                seconds.append(time.thread_time() - began)
    outcome.detail["spot_baseline"] = {"replay_s": spread(taken["replay"]), "steps": BASELINE_STEPS}
    for name, check in checks.items():
        seconds = taken[name]
        ratios = [a / b for a, b in zip(seconds, taken["replay"], strict=True)]
        outcome.figures |= {
            f"check_s_{name}": round(statistics.median(seconds), 3),
            f"check_mb_{name}": round(len(check.raw) / 1e6, 2),
            NAMES[name]: round(statistics.median(ratios), 3),
        }
        outcome.detail[f"check_{name}"] = {
            "seconds": spread(seconds),
            "over_replay": spread(ratios),
            "items": check.counts,
            "elements": check.elements,
            "nodes": check.nodes,
            "parameters_of_the_stage": check.numel,
        }
        say(f"a check at {name}: {statistics.median(seconds):.1f} s, {len(check.raw) / 1e6:.1f} MB")


def spec_of(file: str) -> RunSpec:
    """Return a packaged run with exact numerics."""
    text = packaged_file(file).replace("native-bf16", "seq-f32/1")
    return planned_spec(parse_run_file(text, file))


class Check:
    """What a verifier gets of one window, as bytes, and the check of it."""

    def __init__(self, spec: RunSpec, items: int) -> None:
        stage = StageIndex(spec.num_stages // 2)
        facts = Facts(spec, spec.digest, stage, RoundIndex(3), NO_DIGEST, is_final_averaging=False)
        numbers = step_numbers(facts, 7, SEEN, spec.microbatches_per_step)
        programs = (
            microbatch_program_of(spec, stage),
            update_program_of(spec, stage, numbers),
        )
        dice = stream(bytes(32), "spot")
        self.asked = list[Wanted]()
        shown = list[ShownTrace]()
        for number, program in enumerate(programs):
            chosen = drawn(program, dice, items // len(programs))
            made = Made(program, chosen)
            self.asked.append(Wanted(number, made.case, tuple(chosen)))
            shown.append(made.shown)
        self.raw = encode(SpotShown(tuple(shown)))
        self.counts = [len(one.items) for one in self.asked]
        self.elements = sum(item.count for one in self.asked for item in one.items)
        self.nodes = [len(program.nodes) for program in programs]
        self.numel = prod(programs[0].nodes[programs[0].inputs["params"]].shape)

    def run(self) -> None:
        """Check it."""
        said = decode(SpotShown, self.raw, limit=64 << 20)
        for asked, trace in zip(self.asked, said.traces, strict=True):
            assert find_false_in(asked, trace) is None, "what was made is right"


class Made:
    """A trace of which a few elements are right, for random operands, and all else is random hashes."""

    def __init__(self, program: Program, items: Iterable[Item]) -> None:
        self._program = program
        self._sparse = [Sparse(number, node) for number, node in enumerate(program.nodes)]
        chosen = list(items)
        ranges = {at: self._made(item) for at, item in sorted(enumerate(chosen), key=_by_node)}
        roots = [one.digest for one in self._sparse]
        self._roots, self._layers = roots, merkle_layers(roots)
        ends = {**program.inputs, **program.outputs}.values()
        root = sealed(self._layers[-1][0], len(roots))
        self.case = Case(program, root, {number: roots[number] for number in ends})
        bound = tuple(proof_in(self._layers, number) for number in sorted(self.case.bound))
        shown = tuple(self._item(item, ranges[at]) for at, item in enumerate(chosen))
        self.shown = ShownTrace(bound, shown)

    def _made(self, item: Item) -> list[list[tuple[int, int]]]:
        """Compute the elements of an item; return the ranges of the operands that they are computed from."""
        node = self._program.nodes[item.node]
        wanted: list[list[tuple[int, int]]] = [[] for _ in node.inputs]

        def read(operand: int, start: int, count: int) -> Tensor:
            wanted[operand].append((start, start + count))
            return self._sparse[node.inputs[operand]].read(start, count)

        for place in range(item.place, item.place + item.count):
            element = self._program.element_of(item.node, index_of(node.shape, place), read)
            self._sparse[item.node].write(place, value_bytes(element))
        return wanted

    def _item(self, item: Item, ranges: list[list[tuple[int, int]]]) -> ShownItem:
        values = self._operand(item.node, [(item.place, item.place + item.count)])
        inputs = self._program.nodes[item.node].inputs
        operands = tuple(self._operand(at, part) for at, part in zip(inputs, ranges, strict=True))
        return ShownItem(values, Reveal(node=item.node, place=item.place, operands=operands))

    def _operand(self, number: int, ranges: list[tuple[int, int]]) -> Operand:
        sparse = self._sparse[number]
        openings = tuple(sparse.opening(*part) for part in leaves_of(sparse.node, ranges))
        return Operand(self._roots[number], proof_in(self._layers, number), openings)


def _by_node(numbered: tuple[int, Item]) -> tuple[int, int]:
    return numbered[1].node, numbered[0]


class Sparse:
    """A value of which only a few leaves are known."""

    def __init__(self, number: int, node: Node) -> None:
        self.node = node
        self._content: Content = node.content
        self._rng = np.random.default_rng(number)
        self._name = number.to_bytes(8, "big")
        self._leaves: dict[int, bytearray] = {}
        self._hashes: dict[Place, bytes] = {}

    @property
    def digest(self) -> Digest:
        """Digest of the value; nothing is written after it."""
        return Digest(self._hash(self._content.top))

    def read(self, start: int, count: int) -> Tensor:
        """Return values; those of a leaf that was not known are random."""
        width = self.node.item_bytes
        return values_of(self.node, self._bytes(start * width, (start + count) * width))

    def write(self, place: int, data: bytes) -> None:
        """Set a value."""
        width = self.node.item_bytes
        self._bytes(place * width, (place + 1) * width)
        for at, byte in enumerate(data, place * width):
            first = covered(self._content, at, at + 1)[0]
            self._leaves[first][at - first] = byte

    def opening(self, start: int, stop: int) -> Opening:
        """Return the opening of whole leaves."""
        path = tuple(self._beside(self._content.top, start, stop))
        return Opening(start, self._bytes(start, stop), path)

    def _bytes(self, start: int, stop: int) -> bytes:
        found, at = bytearray(), start
        while at < stop:
            first, last = covered(self._content, at, at + 1)
            if first not in self._leaves:
                self._leaves[first] = bytearray(self._random(first, last))
            end = min(stop, last)
            found += self._leaves[first][at - first : end - first]
            at = end
        return bytes(found)

    def _random(self, first: int, last: int) -> bytes:
        """Return random values: positive, so that each has a root, and ids within a vocabulary.

        A leaf may begin or end within a value; the other half is another's, of a number of that size.
        """
        width, rng, dtype = self.node.item_bytes, self._rng, self.node.dtype
        start = first // width * width
        count = -(-(last - start) // width)
        if dtype == "uint8":
            values = rng.integers(0, 0x3F, count, dtype=np.uint8).tobytes()
        elif dtype == "float32":
            values = rng.uniform(0.01, 1.0, count).astype("<f4").tobytes()
        else:
            kind = np.dtype(dtype).newbyteorder("<")
            values = rng.integers(0, 1000, count).astype(kind).tobytes()
        return values[first - start : last - start]

    def _hash(self, place: Place) -> bytes:
        if place not in self._hashes:
            self._hashes[place] = self._computed(place)
        return self._hashes[place]

    def _computed(self, place: Place) -> bytes:
        start, stop = self._content.span(place)
        if not self._knows(start, stop):
            return fast_digest("made", self._name, encode(place))
        if is_leaf(self._content, place):
            return leaf_hash_of(self._content, place, self._bytes(start, stop))
        below = [self._hash(one) for one in children(self._content, place, 1)]
        return lead(self._content, place, below, 1)

    def _knows(self, start: int, stop: int) -> bool:
        return any(start <= first < stop for first in self._leaves)

    def _beside(self, place: Place, start: int, stop: int) -> Iterator[bytes]:
        first, last = self._content.span(place)
        if not (first < stop and start < last):
            yield self._hash(place)
        elif not is_leaf(self._content, place):
            for child in children(self._content, place, 1):
                yield from self._beside(child, start, stop)
