"""A dataset appears whole or not at all, is a function of its text, and costs memory that does not grow."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swarm.errors import BadConfig, UsageError
from swarm.training.data.disk import TokenWriter, open_dataset, open_tokens, verify_dataset
from swarm.training.data.samples import build_corpus
from swarm.training.data.tokenizer import load_tokenizer
from tests.training.datasets import a_tokenizer, build, some_texts, write_texts

TEXTS = some_texts(60)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    return write_texts(tmp_path / "in", TEXTS)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("memory_bytes", [1, 1 << 20])
@pytest.mark.parametrize("max_bytes", [1 << 30, 3000])
def test_bytes_are_cut_as_a_launch_cuts_them(
    tmp_path: Path, texts: Path, memory_bytes: int, max_bytes: int
) -> None:
    built = build(tmp_path / "out", texts, memory_bytes=memory_bytes, max_bytes=max_bytes)
    corpus = build_corpus(TEXTS, max_bytes=max_bytes, heldout_every=10)
    assert (tmp_path / "out" / "train.bin").read_bytes() == corpus.train
    assert (tmp_path / "out" / "heldout.bin").read_bytes() == corpus.heldout
    assert names(tmp_path / "out") == ["heldout.bin", "manifest.bin", "train.bin"]
    assert names(tmp_path) == ["in", "out"]
    assert built.num_found == 60
    assert built.dataset.manifest.num_documents + built.num_left_out == 60
    verify_dataset(open_dataset(tmp_path / "out"))


def test_the_same_text_has_the_same_hash_however_it_is_kept(tmp_path: Path, texts: Path) -> None:
    import json

    import pyarrow
    from pyarrow import parquet

    rows = [text.decode() for text in reversed(TEXTS)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    arrow: Any = pyarrow
    writer: Any = parquet
    writer.write_table(arrow.table({"text": rows}), tmp_path / "a.parquet")
    inputs = [texts, tmp_path / "a.jsonl", tmp_path / "a.parquet"]
    digests = {
        build(tmp_path / f"out{number}", path, raw=a_tokenizer()).dataset.manifest.digest
        for number, path in enumerate(inputs)
    }
    built = build(tmp_path / "all", *inputs, raw=a_tokenizer())
    assert digests == {built.dataset.manifest.digest}
    assert (built.num_found, built.dataset.manifest.num_documents) == (180, 60)


def test_a_tokenizers_file_gives_its_tokens_and_travels_along(tmp_path: Path, texts: Path) -> None:
    dataset = build(tmp_path / "out", texts, raw=a_tokenizer()).dataset
    manifest = dataset.manifest
    assert (manifest.dtype, manifest.num_token_ids, manifest.separator) == ("uint16", 1001, 1000)
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == a_tokenizer()
    tokenizer = load_tokenizer(a_tokenizer())
    corpus = build_corpus(TEXTS, max_bytes=1 << 30, heldout_every=10)
    for name, whole in (("train.bin", corpus.train), ("heldout.bin", corpus.heldout)):
        tokens = open_tokens(tmp_path / "out" / name, manifest.dtype)
        parts = [tokenizer.encode([text])[0] for text in whole.split(b"\0")[:-1]]
        wanted = [np.append(part, np.uint16(1000)) for part in parts]
        assert np.array_equal(tokens, np.concatenate(wanted))


@pytest.mark.parametrize("num_words", [100, 70_000])
def test_small_and_large_vocabularies_choose_their_width(tmp_path: Path, num_words: int) -> None:
    texts = write_texts(tmp_path / "in", some_texts(num_words=num_words - 1))
    dataset = build(tmp_path / "out", texts, raw=a_tokenizer(num_words)).dataset
    assert dataset.manifest.dtype == ("uint8" if num_words == 100 else "uint32")
    verify_dataset(dataset)


def test_a_failed_build_leaves_nothing(tmp_path: Path, texts: Path) -> None:
    (texts / "z.jsonl").write_text('{"text": 3}\n')
    with pytest.raises(BadConfig, match="line 1"):
        build(tmp_path / "out", texts)
    (texts / "z.jsonl").write_bytes(b"")
    with pytest.raises(BadConfig, match="are needed to hold out one in 1000 of them"):
        build(tmp_path / "out", texts, heldout_every=1000)
    with pytest.raises(BadConfig, match="no text"):
        build(tmp_path / "out", texts / "z.jsonl")
    (texts / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadConfig, match="no text in what was named, but: Latin-1") as caught:
        build(tmp_path / "out", texts / "latin.txt", raw=a_tokenizer())
    assert caught.value.hint.startswith("iconv ")
    assert names(tmp_path) == ["in"]


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TokenWriter, "add", full)
    with pytest.raises(BadConfig, match="No space left") as caught:
        build(tmp_path / "out", texts)
    assert caught.value.hint == "df -h"
    assert names(tmp_path) == ["in"]


def test_what_is_there_is_replaced_only_if_it_is_a_dataset_and_that_was_asked(
    tmp_path: Path, texts: Path
) -> None:
    out = tmp_path / "out"
    first = build(out, texts).dataset
    with pytest.raises(UsageError, match="is there") as caught:
        build(out, texts)
    assert "--yes" in caught.value.hint
    second = build(out, texts, heldout_every=5, is_replaced=True).dataset
    assert open_dataset(out) == second != first
    (out / "precious").touch()
    for bad in (out, texts, tmp_path, texts / "0000.txt"):
        with pytest.raises(UsageError, match="is no dataset"):
            build(bad, texts, is_replaced=True)
    (tmp_path / "link").symlink_to(out)
    (out / "precious").unlink()
    with pytest.raises(UsageError, match="is no dataset"):
        build(tmp_path / "link", texts, is_replaced=True)
    assert names(tmp_path) == ["in", "link", "out"]
    assert len(names(texts)) == 60


def test_a_killed_build_is_begun_again_and_two_at_once_are_refused(
    tmp_path: Path, texts: Path
) -> None:
    workshop = tmp_path / ".out.building"
    workshop.mkdir()
    (workshop / "train.bin").write_bytes(b"half")
    (workshop / "run-0").write_bytes(b"half")
    handle = os.open(workshop, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(UsageError, match="another build"):
        build(tmp_path / "out", texts)
    assert names(workshop) == ["run-0", "train.bin"], "what another build writes is left alone"
    os.close(handle)
    verify_dataset(build(tmp_path / "out", texts).dataset)
    assert names(tmp_path) == ["in", "out"]


def test_a_replacement_cut_off_in_the_middle_keeps_the_old_one(tmp_path: Path, texts: Path) -> None:
    old = build(tmp_path / "out", texts).dataset
    (tmp_path / "out").rename(tmp_path / ".out.replaced")
    with pytest.raises(UsageError, match="is there"):
        build(tmp_path / "out", texts)
    assert open_dataset(tmp_path / "out") == old


def test_a_kill_at_any_moment_leaves_a_whole_dataset_or_none(tmp_path: Path) -> None:
    """The process is killed before one after another of its last calls that open, rename or remove."""
    texts = write_texts(tmp_path / "in", TEXTS[:30])
    program = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from tests.training.datasets import build\n"
        "left = int(sys.argv[1])\n"
        "def hook(name, args):\n"
        "    global left\n"
        "    if name in {'open', 'os.rename', 'os.remove', 'os.mkdir', 'os.rmdir'} and armed:\n"
        "        left -= 1\n"
        "        if left < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "armed = False\n"
        "sys.addaudithook(hook)\n"
        "from swarm.training.data.documents import find_inputs\n"
        "armed = True\n"
        "build(Path(sys.argv[3]), Path(sys.argv[2]), is_replaced=True)\n"
        "armed = False\n"
        "print(left)\n"
    )
    out = tmp_path / "out"

    def run(left: int) -> str:
        command = [sys.executable, "-c", program, str(left), str(texts), str(out)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    run(10_000)
    calls, left_behind = 10_000 - int(run(10_000)), set[str]()
    for before_the_end in range(1, 15):
        assert run(calls - before_the_end) == ""
        left_behind |= set(names(tmp_path)) - {"in", "out"}
        found = out if out.exists() else tmp_path / ".out.replaced"
        verify_dataset(open_dataset(found))
        assert names(found) == ["heldout.bin", "manifest.bin", "train.bin"]
    assert left_behind == {".out.building", ".out.replaced"}
    assert run(10_000)
    assert names(tmp_path) == ["in", "out"]


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    """Eight times the text, and the same peak but for a few MiB."""
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.training.datasets import build\n"
        "build(Path(sys.argv[2]), Path(sys.argv[1]), memory_bytes=1 << 20, heldout_every=2)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for size in (4, 32):
        path = tmp_path / f"{size}.txt"
        with path.open("wb") as file:
            for number in range(size << 4):
                file.write(b"%d " % number * (65_536 // len(b"%d " % number)) + b"\n")
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), str(tmp_path / f"out{size}")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 8 << 10, f"KiB: {peaks}"
