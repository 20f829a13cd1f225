"""A corpus does not depend on the order of its files, and a sample id names one window everywhere."""

import random

import numpy as np
import pytest
import torch

from swarm.errors import BadConfig, UsageError
from swarm.primitives.crypto import digest
from swarm.training.data.samples import (
    build_corpus,
    draw_samples,
    sample_ids,
    sample_ids_root,
    windows,
)
from swarm.types import Digest, RoundIndex
from tests.training.pipeline import Swarm, a_spec

FILES = [f"file {i}: {'text ' * (i % 7)}\n".encode() for i in range(60)]
BEACON = Digest(bytes(range(32)))
RUN = Digest(bytes(32))


def test_the_order_of_files_and_duplicates_do_not_matter() -> None:
    corpus = build_corpus(FILES, max_bytes=1 << 20, heldout_every=10)
    shuffled = [*FILES, *FILES[:5], b""]
    random.Random(1).shuffle(shuffled)
    assert build_corpus(shuffled, max_bytes=1 << 20, heldout_every=10) == corpus


def test_held_out_files_are_never_trained_on() -> None:
    corpus = build_corpus(FILES, max_bytes=1 << 20, heldout_every=10)
    train, heldout = corpus.train.split(b"\x00")[:-1], corpus.heldout.split(b"\x00")[:-1]
    assert len(heldout) == 6
    assert sorted(train + heldout) == sorted(FILES)


def test_the_size_is_bounded() -> None:
    corpus = build_corpus(FILES, max_bytes=500, heldout_every=3)
    assert len(corpus.train) + len(corpus.heldout) <= 500


@pytest.mark.parametrize("files", [[], [b"alone"]])
def test_too_few_files_are_refused(files: list[bytes]) -> None:
    with pytest.raises(BadConfig):
        build_corpus(files, max_bytes=1 << 20, heldout_every=10)


def draw(
    origin: int = 0, step: int = 0, beacon: Digest = BEACON, count: int = 8
) -> tuple[int, ...]:
    return sample_ids(beacon, RUN, origin, RoundIndex(3), step, 1, count, 1000)


@pytest.mark.rule("T13")
def test_samples_follow_from_the_beacon_and_the_place() -> None:
    assert draw() == draw()
    others = {draw(), draw(origin=1), draw(step=1), draw(beacon=digest("test", b"x"))}
    assert len(others) == 4
    assert len({sample_ids_root(ids) for ids in others}) == 4
    # A golden value: a change here changes what every seat trains on.
    assert draw(count=3) == GOLDEN_IDS


def test_samples_are_spread_over_all_windows() -> None:
    drawn = [i for step in range(200) for i in draw(step=step)]
    assert 0 <= min(drawn) < 20
    assert 980 < max(drawn) < 1000
    assert 470 < sum(drawn) / len(drawn) < 530


def test_a_window_is_its_tokens_and_the_next_ones() -> None:
    tokens = np.arange(100, dtype=np.uint8)
    inputs_BT, labels_BT = windows(tokens, (0, 95, 7), 4)
    assert inputs_BT.tolist() == [[0, 1, 2, 3], [95, 96, 97, 98], [7, 8, 9, 10]]
    assert torch.equal(labels_BT, inputs_BT + 1)
    assert inputs_BT.dtype == torch.int64


@pytest.mark.parametrize("ids", [(), (96,), (-1,)])
def test_a_window_outside_the_file_is_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        windows(np.arange(100, dtype=np.uint8), ids, 4)


@pytest.mark.parametrize(("count", "num_windows"), [(0, 10), (5000, 10), (1, 0)])
def test_an_impossible_draw_is_refused(count: int, num_windows: int) -> None:
    with pytest.raises(UsageError):
        sample_ids(BEACON, RUN, 0, RoundIndex(0), 0, 0, count, num_windows)


GOLDEN_IDS = (334, 55, 886)


@pytest.mark.rule("T13")
def test_a_microbatch_is_drawn_by_its_place_in_the_round() -> None:
    plan = Swarm(a_spec(), replicas=1).plan
    tokens = np.arange(200, dtype=np.uint8)
    inputs_BT, labels_BT, root = draw_samples(tokens, plan, (0, 3, 1))
    ids = sample_ids(plan.beacon, plan.run_digest, 0, plan.round, 3, 1, 4, 200 - 16)
    assert inputs_BT[:, 0].tolist() == list(ids)
    assert labels_BT[:, -1].tolist() == [start + 16 for start in ids]
    assert root == sample_ids_root(ids)
    assert draw_samples(tokens, plan, (0, 3, 0))[2] != root
