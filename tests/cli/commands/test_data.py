"""`swarm data` builds, lists and verifies, and says in one sentence what is wrong with an input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swarm.cli.commands import data as module
from swarm.cli.model_sources import Model, load_model, save_model, tokenizer_of
from swarm.config.spec import ModelSpec
from swarm.errors import BadConfig
from swarm.gossip.blobs.chunks import blob_manifest, blob_root
from swarm.gossip.blobs.disk import BlobStore
from swarm.host.identity import lock_home
from swarm.training.model.stages import init_flat, plan_stages
from tests.training.datasets import a_tokenizer, some_texts, write_texts

RunCli = Callable[..., tuple[int, str, str]]
MODEL = ModelSpec(
    vocab_size=1008,
    hidden_size=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=24,
    seq_len=16,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)


@pytest.fixture
def run_cli(run_cli: RunCli, tmp_path: Path) -> RunCli:
    """Run a command line in a home with some texts beside it."""
    write_texts(tmp_path / "in", some_texts())
    (tmp_path / "tokenizer.json").write_bytes(a_tokenizer())
    return run_cli


def test_build_list_and_verify(run_cli: RunCli, tmp_path: Path) -> None:
    code, out, err = run_cli("data", "build", "in", "--out", "mine", "--json")
    built = json.loads(out)
    assert (code, built["documents"], built["found"], built["left_out"]) == (0, 40, 40, 0)
    assert built["dir"] == str(tmp_path / "home" / "datasets" / "mine")
    assert (built["dtype"], built["tokenizer"], built["token_ids"]) == ("uint8", "bytes", 256)
    assert 'dataset = "mine" under [data]' in err
    assert (
        run_cli("data", "build", "in", "--out", "./here", "--tokenizer", "tokenizer.json")[0] == 0
    )
    assert (tmp_path / "here" / "tokenizer.json").is_file()

    (row,) = json.loads(run_cli("data", "ls", "--json")[1])
    assert (row["name"], row["hash"], row["used_by"]) == ("mine", built["hash"], [])
    code, out, err = run_cli("data", "ls")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == "NAME TOKENS HELD OUT SIZE IDS HASH RUNS".split()
    assert built["hash"][:16] in out

    code, out, _ = run_cli("data", "verify", "mine", "./here", "--json")
    assert (code, [row["ok"] for row in json.loads(out)]) == (0, [True, True])
    assert "mine" in run_cli("data", "verify")[1]


def test_a_damaged_dataset_is_named_with_exit_code_6(run_cli: RunCli, tmp_path: Path) -> None:
    run_cli("data", "build", "in", "--out", "mine")
    path = tmp_path / "home" / "datasets" / "mine" / "heldout.bin"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    code, out, err = run_cli("data", "verify")
    assert (code, out) == (6, "")
    assert "heldout.bin: chunk 0 of 1" in err
    assert "try: " in err
    assert run_cli("data", "verify", "mine")[0] == 6
    (path.parent / "manifest.bin").write_bytes(b"junk")
    assert run_cli("data", "verify")[0] == 6
    code, out, _ = run_cli("data", "ls")
    assert (code, "damaged" in out) == (0, True)


def test_what_became_of_the_other_documents_is_said(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "in" / "again.txt").write_bytes((tmp_path / "in" / "0000.txt").read_bytes())
    assert (
        "of 40 documents (1 more were there twice), "
        in run_cli("data", "build", "in", "--out", "a")[1]
    )
    out = run_cli(
        "data", "build", "in", "--out", "b", "--heldout-every", "2", "--max-bytes", "2000"
    )[1]
    assert "(1 more were there twice) (" in out
    assert " left out by --max-bytes)" in out


@pytest.mark.rule("T13b")
def test_what_is_no_text_is_shown_with_a_command_for_each_kind(
    run_cli: RunCli, tmp_path: Path
) -> None:
    picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    (tmp_path / "in" / "a b\x1b[2J.png").write_bytes(picture)
    (tmp_path / "in" / "latin.txt").write_bytes("Grüße aus Köln\n".encode("latin-1"))
    (tmp_path / "in" / "wide.txt").write_text("Grüße", encoding="utf-16")
    (tmp_path / "in" / "empty").touch()
    (tmp_path / "in" / "chat.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "a"}]}\n'
    )
    code, out, _ = run_cli("data", "build", "in", "--out", "a")
    assert code == 0
    assert "\x1b" not in out
    assert "conversations: 1, by the template plain\n" in out
    assert "read as text: UTF-16, 1 file\n" in out
    assert "left out, no text: Latin-1, 1 file, 15 bytes, in/latin.txt\n  try: iconv -f" in out
    assert "left out, no text: picture, 1 file, " in out
    assert "left out: empty files: 1\n" in out
    built = json.loads(run_cli("data", "build", "in", "--out", "b", "--json")[1])
    assert (built["files"], built["chats"], built["template"]) == (42, 1, "plain")
    skipped = built["skipped"]
    assert {row["kind"]: row["files"] for row in skipped["not_text"]} == {
        "picture": 1,
        "Latin-1": 1,
    }
    assert all(row["hint"] and row["example"] for row in skipped["not_text"])
    assert (skipped["empty_files"], skipped["links"], built["converted"]) == (1, 0, {"UTF-16": 1})


@pytest.mark.rule("T13d")
def test_one_file_is_enough_to_train_on(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_bytes(b"A line of some words.\n\n" * 4400)
    code, out, _ = run_cli("data", "build", "book.txt", "--out", "a")
    assert code == 0
    assert (
        "of 1 document, 101,200 bytes of text in 1 file; fewer than 20, so about the last 1/20"
        in out
    )
    assert json.loads(run_cli("data", "build", "book.txt", "--out", "b", "--json")[1])[
        "heldout_ends"
    ]
    assert run_cli("data", "verify")[0] == 0


def test_a_home_without_datasets_says_how_to_make_one(run_cli: RunCli) -> None:
    for command in ("ls", "verify"):
        code, out, _ = run_cli("data", command)
        assert (code, out) == (0, "no datasets here; make one: swarm data build\n")
    assert json.loads(run_cli("data", "ls", "--json")[1]) == []


@pytest.mark.parametrize(
    ("args", "code", "cause"),
    [
        (["data", "build"], 2, "Missing argument"),
        (["data", "build", "in"], 2, "Missing option"),
        (["data", "build", "in", "--out", ""], 2, "the name of a dataset is empty"),
        (["data", "build", "in", "--out", "/"], 2, "is no dataset"),
        (["data", "build", "in", "--out", "./in"], 2, "is no dataset"),
        (["data", "build", "in", "--out", "x", "--heldout-every", "1"], 2, "heldout-every"),
        (["data", "build", "gone", "--out", "x"], 4, "gone cannot be read: No such file"),
        (["data", "build", "bad.jsonl", "--out", "x"], 4, "bad.jsonl line 1 has no field 'text'"),
        (["data", "build", "in", "--out", "x", "--tokenizer", "no.json"], 4, "no.json cannot be"),
        (
            ["data", "build", "in", "--out", "x", "--tokenizer", "in/0000.txt"],
            4,
            "in/0000.txt: not a tokenizers",
        ),
        (
            ["data", "build", "in", "--out", "x", "--max-bytes", "30"],
            4,
            "max_bytes = 30 leaves room",
        ),
        (["data", "build", "in", "--out", "a b"], 4, '"a b" is no name of a dataset'),
        (["data", "build", "in", "--out", ".x"], 4, '".x" is no name of a dataset'),
        (["data", "verify", "nothing"], 4, "there is no dataset"),
        (["data", "verify", "./in"], 4, "there is no dataset"),
        (["launch", "run.toml"], 4, "there is no dataset"),
        (["data", "build", "esc\x1b[2J.gz", "--out", "x"], 4, "such as"),
        (["data", "build", "in", "--out", "x", "--template", "y"], 4, "there are chatml, plain"),
    ],
)
def test_mistakes_have_a_cause_a_hint_and_a_code(
    run_cli: RunCli, tmp_path: Path, args: list[str], code: int, cause: str
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"body": "x"}\n')
    (tmp_path / "esc\x1b[2J.gz").write_bytes(b"BZh91AY\xff\0")
    (tmp_path / "run.toml").write_text('[data]\ndataset = "nothing"\n')
    found, out, err = run_cli(*args)
    assert (found, out) == (code, "")
    assert cause in err
    assert "\x1b" not in err
    assert "\n  try: " in err
    assert not (tmp_path / "home" / "datasets" / "x").exists()


def test_an_existing_dataset_is_replaced_only_with_yes(run_cli: RunCli) -> None:
    args = ("data", "build", "in", "--out", "mine")
    assert run_cli(*args)[0] == 0
    code, _, err = run_cli(*args)
    assert (code, "--yes" in err) == (2, True)
    assert run_cli(*args, "--yes")[0] == 0


def test_the_runs_that_use_a_dataset_are_named(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = json.loads(run_cli("data", "build", "in", "--out", "mine", "--json")[1])["train_root"]
    monkeypatch.setattr(module, "_used_by", lambda _: {root: ["my-run", "other"]})
    assert json.loads(run_cli("data", "ls", "--json")[1])[0]["used_by"] == ["my-run", "other"]
    assert "my-run, other" in run_cli("data", "ls")[1]


def test_building_bytes_loads_neither_torch_nor_the_optional_libraries(
    run_cli: RunCli, tmp_path: Path
) -> None:
    heavy = ("torch", "libp2p", "hivemind", "tokenizers", "pyarrow")
    program = (
        "import sys; from swarm.cli.main import run\n"
        "code = run(['data', 'build', 'in', '--out', 'mine'])\n"
        "code += run(['data', 'ls']) + run(['data', 'verify'])\n"
        f"print(code, [m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path,
        env={"SWARM_HOME": str(tmp_path / "h"), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "0 []"


def a_model(folder: Path, raw: bytes = b"", model: ModelSpec = MODEL) -> Path:
    (plan,) = plan_stages(model, 1)
    save_model(folder, Model(model, init_flat(plan, 1), 0, raw))
    return folder


def test_a_model_is_used_with_its_tokenizer(run_cli: RunCli, tmp_path: Path) -> None:
    a_model(tmp_path / "model", a_tokenizer())
    assert load_model(tmp_path / "model").tokenizer == a_tokenizer()
    code, out, _ = run_cli("generate", "-m", "model", "-p", "w0 w1", "--count", "5", "--json")
    assert code == 0
    assert all(word.startswith("w") or word == "[UNK]" for word in json.loads(out)["text"].split())
    (tmp_path / "text").write_bytes(b" ".join(some_texts()))
    code, out, _ = run_cli("eval", "model", "--data", "text", "--json")
    row: dict[str, Any] = json.loads(out)
    assert (code, row["bytes"]) == (0, (tmp_path / "text").stat().st_size)
    assert 6 < row["loss_nats"] < 9
    assert row["bits_per_byte"] == pytest.approx(
        row["loss_nats"] / 0.6931472 * row["tokens"] / row["bytes"]
    )
    out = run_cli("eval", "model", "--data", "text")[1]
    assert out.startswith("model: ")
    assert " nats per token, perplexity " in out
    assert out.endswith(f" bits per byte; on text, {row['tokens']:,} tokens\n")
    (tmp_path / "short").write_bytes(b"w1 w2")
    code, out, err = run_cli("eval", "model", "--data", "short")
    assert (code, out) == (2, "")
    assert "short has 2 tokens, and a window of this model has 16" in err
    assert "--data A_LONGER_TEXT" in err


def test_a_model_without_its_tokenizer_says_so(run_cli: RunCli, tmp_path: Path) -> None:
    a_model(tmp_path / "model", a_tokenizer())
    a_model(tmp_path / "model")
    assert not (tmp_path / "model" / "tokenizer.json").exists()
    code, _, err = run_cli("generate", "-m", "model")
    assert (code, "needs its tokenizer.json" in err) == (4, True)
    with pytest.raises(BadConfig):
        tokenizer_of(load_model(tmp_path / "model"))


def test_a_model_of_bytes_needs_none(run_cli: RunCli, tmp_path: Path) -> None:
    a_model(
        tmp_path / "model",
        model=ModelSpec(
            vocab_size=256,
            hidden_size=16,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            intermediate_size=24,
            seq_len=16,
            rope_theta=10_000,
            norm_eps_nano=10_000,
        ),
    )
    (tmp_path / "text").write_bytes(b"x" * 100)
    row = json.loads(run_cli("eval", "model", "--data", "text", "--json")[1])
    assert row["bytes"] == row["tokens"] == 100
    assert row["bits_per_byte"] == pytest.approx(row["loss_nats"] / 0.6931472)
    assert run_cli("generate", "-m", "model", "--count", "3")[0] == 0


def test_a_launch_with_another_dataset_than_the_pinned_one_names_both_and_the_right_one(
    run_cli: RunCli, tmp_path: Path
) -> None:
    args = ("data", "build", "in", "--json", "--out")
    mine = json.loads(run_cli(*args, "mine")[1])["hash"]
    other = json.loads(run_cli(*args, "other", "--heldout-every", "7")[1])["hash"]
    run_file = tmp_path / "run.toml"
    run_file.write_text(f'[data]\ndataset = "mine"\ndataset_hash = "{other}"\n')
    code, out, err = run_cli("launch", "run.toml")
    assert (code, out) == (6, "")
    assert mine in err
    assert other in err
    assert 'try: dataset = "other" under [data]' in err
    run_file.write_text(f'[data]\ndataset_hash = "{other}"\n')
    code, _, err = run_cli("launch", "run.toml")
    assert (code, "has the hash of a dataset, and names none" in err) == (4, True)
    run_file.write_text('[data]\ndataset = "mine"\ndataset_hash = "12ab"\n')
    code, _, err = run_cli("launch", "run.toml")
    assert (code, "is not 64 digits of 0-9 and a-f" in err) == (4, True)


def test_joining_with_a_dataset_that_is_not_there_is_reported_before_anything_starts(
    run_cli: RunCli,
) -> None:
    code, _, err = run_cli("join", "@ticket", "--dataset", "nothing")
    assert (code, "there is no dataset" in err) == (4, True)


def test_unfinished_downloads_are_shown_and_cleaned(run_cli: RunCli, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "blobs"
    store, data = BlobStore(folder, quota_bytes=1 << 30), b"x" * (3 << 20)
    manifest = blob_manifest(data, dtype="uint8", shape=(len(data),))
    root = blob_root(manifest)
    store.begin(root, manifest)
    store.write_chunks(root, 1, data[: 1 << 20])
    complete = store.add_bytes(memoryview(data + b"y"), "uint8", (len(data) + 1,))
    code, out, _ = run_cli("data", "ls")
    assert code == 0
    assert root.hex()[:16] in out
    assert complete.hex()[:16] not in out
    assert "swarm data clean" in out
    (row,) = json.loads(run_cli("data", "ls", "--json")[1])
    assert (row["unfinished"], row["bytes"]) == (root.hex(), 3 << 20)
    with lock_home(tmp_path / "home"):
        assert run_cli("data", "clean")[0] == 5, "its node is running"
    code, out, _ = run_cli("data", "clean")
    assert (code, "3.1 MB of the quota are free again" in out) == (0, True)
    assert run_cli("data", "clean")[1] == "nothing to clean\n"
    assert json.loads(run_cli("data", "ls", "--json")[1]) == []
    assert store.roots() == [complete]
