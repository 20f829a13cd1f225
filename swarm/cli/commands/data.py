"""Build datasets, and list, verify or clean up those on this disk: data build, ls, verify, clean.

Shell: reads and writes datasets; ``swarm.training`` does the work.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from swarm.cli.terminal import Terminal, terminal
from swarm.errors import BadConfig, SwarmError, UsageError

if TYPE_CHECKING:
    from swarm.training.data.build import Built, Order
    from swarm.training.data.disk import Dataset
    from swarm.training.data.tokenizer import Tokenizer

PRINT_INTERVAL_S = 3.0
TEXT_BYTES_MAX = 1 << 44
"""Bytes that stand for no limit."""
BYTES_MAX = 1 << 34
"""Bytes of text that is read as bytes: a token file has at most 16 GiB."""
LINE_CHARS_MAX = 2000
"""Two paths of the longest kind would pass it; a name of a file may hold anything."""
_NONE = "no datasets here; make one: swarm data build"

data_app = typer.Typer(help="Datasets to train on: build, ls, verify, clean.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(data_app, name="data")


@data_app.command("build")
def build(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files and folders: text, .jsonl (.ndjson), both also as .gz or .zst, .parquet."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(help="A name, kept in this home, or a path with a /."),
    ],
    tokenizer: Annotated[
        str, typer.Option(help="bytes, or a tokenizer.json of the tokenizers library.")
    ] = "bytes",
    field: Annotated[str, typer.Option(help="The text in a line of .jsonl.")] = "text",
    column: Annotated[str, typer.Option(help="The text in a row of .parquet.")] = "text",
    template: Annotated[
        str,
        typer.Option(help='How {"messages": [...]} becomes text: plain ("role: text"), or chatml.'),
    ] = "plain",
    heldout_every: Annotated[
        int,
        typer.Option(
            help="Every n-th document is never trained on; of fewer, the end of each.",
            min=2,
            max=10_000,
        ),
    ] = 20,
    max_bytes: Annotated[
        int,
        typer.Option(
            help="Most text to take; the rest is left out at random.", min=1, show_default=False
        ),
    ] = TEXT_BYTES_MAX,
) -> None:
    """Make a dataset of text: a training and a held-out part, as tokens."""
    from swarm.training.data.build import Order, build_dataset
    from swarm.training.data.chat import check_template
    from swarm.training.data.documents import Form, find_inputs

    screen = terminal()
    began = time.monotonic()
    path = _path(screen, out)
    check_template(template)
    found = find_inputs([Path(name).expanduser() for name in inputs])
    raw = b"" if tokenizer == "bytes" else _tokenizer_file(Path(tokenizer).expanduser())
    order = Order(
        inputs=found,
        form=Form(field=field, column=column, template=template),
        tokenizer=_loaded(raw, tokenizer),
        heldout_every=heldout_every,
        max_bytes=max_bytes if raw else min(max_bytes, BYTES_MAX),
    )
    console = _BuildConsole(screen, order)
    built = build_dataset(path, order, console.on_progress, is_replaced=screen.options.yes)
    _print_built(screen, order, built, time.monotonic() - began)


@data_app.command("ls")
def list_() -> None:
    """List datasets, with the runs that train on them, and unfinished downloads."""
    from swarm.cli.style import table
    from swarm.training.data.disk import list_datasets

    screen = terminal()
    used = _used_by(screen.home)
    rows: list[dict[str, object]] = []
    for path, found in list_datasets(screen.home):
        if isinstance(found, SwarmError):
            rows.append({"name": path.name, "dir": str(path), "error": str(found)})
        else:
            row = _row(found)
            rows.append({**row, "used_by": used.get(found.manifest.train.root.hex(), [])})
    shown = [_columns(row) for row in rows]
    head = ["NAME", "TOKENS", "HELD OUT", "SIZE", "IDS", "HASH", "RUNS"]
    lines = table(head, shown, numbers=frozenset({1, 2, 3, 4}), ink=screen.ink)
    unfinished = _unfinished(screen.home, used)
    lines = lines if rows else [_NONE]
    if unfinished:
        head = ["UNFINISHED", "HERE", "OF", "LAST TOUCHED", "RUNS"]
        left = [_left_columns(row) for row in unfinished]
        lines += ["", *table(head, left, numbers=frozenset({1, 2}), ink=screen.ink)]
        lines.append(
            "they go by themselves when their room is needed, and now with: swarm data clean"
        )
    screen.data([*rows, *unfinished], lines)


@data_app.command("clean")
def clean() -> None:
    """Give up unfinished downloads. What is whole stays; the node must be stopped."""
    from swarm.cli.style import human_bytes
    from swarm.gossip.blobs.disk import BLOBS, BlobStore
    from swarm.host.identity import lock_home

    screen, num_bytes = terminal(), 0
    folder = screen.home / BLOBS
    if folder.is_dir():
        with lock_home(screen.home):
            num_bytes = BlobStore(folder, quota_bytes=0).give_up()
    message = (
        f"{human_bytes(num_bytes)} of the quota are free again" if num_bytes else "nothing to clean"
    )
    screen.data({"freed_bytes": num_bytes}, [message])


@data_app.command("verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or paths; without any, all of this home.")
    ] = None,
) -> None:
    """Hash datasets again; names the first chunk that differs from its manifest."""
    from swarm.training.data.disk import list_datasets, open_dataset, verify_dataset

    screen = terminal()
    datasets: list[Dataset] = []
    if names:
        datasets = [open_dataset(_path(screen, name)) for name in names]
    for _, found in () if names else list_datasets(screen.home):
        if isinstance(found, SwarmError):
            raise found
        datasets.append(found)
    rows: list[dict[str, object]] = []
    for dataset in datasets:
        with screen.patient(f"hashing {dataset.folder}: {dataset.num_bytes / 1e6:.0f} MB"):
            verify_dataset(dataset)
        rows.append({**_row(dataset), "ok": True})
    lines = [
        f"{row['name']}: all {row['bytes']:,} bytes are whole, hash {row['hash']}" for row in rows
    ]
    screen.data(rows, lines or [_NONE])


class _BuildConsole:
    """Progress messages of a build, some seconds apart."""

    def __init__(self, screen: Terminal, order: "Order") -> None:
        self._screen = screen
        self._total = order.inputs.num_bytes
        self._printed_at = time.monotonic()

    def on_progress(self, what: str, num_bytes: int) -> None:
        """Report progress; called often, prints seldom."""
        now = time.monotonic()
        if now - self._printed_at >= PRINT_INTERVAL_S:
            self._printed_at = now
            of = f" of {self._total / 1e6:.0f}" if what == "read" else ""
            self._screen.say(f"{what} {num_bytes / 1e6:.0f}{of} MB")


def _path(screen: Terminal, name: str) -> Path:
    from swarm.training.data.disk import dataset_path

    if not name:
        raise UsageError("the name of a dataset is empty", hint="swarm data ls")
    return dataset_path(screen.home, Path(), name)


def _tokenizer_file(path: Path) -> bytes:
    from swarm.training.data.disk import open_regular
    from swarm.training.data.tokenizer import TOKENIZER_BYTES_MAX

    with open_regular(path, follow=True) as file:
        raw = file.read(TOKENIZER_BYTES_MAX + 1)
    if not raw:
        raise BadConfig(f"{path} is empty", hint="--tokenizer bytes")
    return raw


def _loaded(raw: bytes, name: str) -> "Tokenizer":
    """Return the tokenizer of a file; raises ``BadConfig`` that names the file."""
    from swarm.training.data.tokenizer import load_tokenizer

    try:
        return load_tokenizer(raw)
    except BadConfig as error:
        raise BadConfig(f"{name}: {error}", hint=error.hint) from None


def _print_built(screen: Terminal, order: "Order", built: "Built", seconds: float) -> None:
    from swarm.events import printable

    row = _row(built.dataset)
    row |= {"found": built.num_found, "left_out": built.num_left_out, "seconds": round(seconds, 2)}
    row |= _counts(order, built)
    ids = built.dataset.manifest.num_token_ids
    lines = [
        f"{row['dir']}: {row['train_tokens']:,} tokens to train on, {row['heldout_tokens']:,} held"
        f" out, of {_documents(order, built)}",
        *_left_out(order, built),
        f"hash {row['hash']}",
    ]
    screen.data(row, [printable(line, LINE_CHARS_MAX) for line in lines])
    named = row["name"] if built.dataset.folder.parent == screen.home / "datasets" else row["dir"]
    size = f", and vocab_size = {ids} or more under [model]" if ids != 256 else ""
    screen.say(
        f'train on it: swarm launch FILE --dataset {named}, or dataset = "{named}" under [data]{size}'
    )
    screen.say(f'and on nothing else: dataset_hash = "{row["hash"]}"')


def _counts(order: "Order", built: "Built") -> dict[str, object]:
    """Return what was read, and what was left out and why, for --json."""
    tally, inputs = built.tally, order.inputs
    return {
        "files": tally.num_files,
        "text_bytes": tally.text_bytes,
        "doubles": built.num_doubles,
        "heldout_ends": built.is_cut,
        "chats": tally.num_chats,
        "template": order.form.template if tally.num_chats else None,
        "converted": dict(tally.read_as),
        "skipped": {
            "not_text": [
                {
                    "kind": found.kind.name,
                    "files": found.num_files,
                    "bytes": found.num_bytes,
                    "example": found.example,
                    "hint": found.hint,
                }
                for found in tally.left_out.values()
            ],
            "empty_files": tally.num_empty_files,
            "empty_documents": tally.num_empty,
            "message_parts": dict(tally.parts),
            "links": inputs.num_links,
            "hidden": inputs.num_hidden,
            "special": inputs.num_special,
            "datasets": inputs.num_datasets,
        },
    }


def _documents(order: "Order", built: "Built") -> str:
    """Return the numbers of documents taken, found twice and left out, in words."""
    tally, left_out = built.tally, built.num_left_out
    taken = built.num_found - built.num_doubles - left_out
    message = f"{taken:,} {'documents' if taken != 1 else 'document'}"
    message += f" ({built.num_doubles:,} more were there twice)" if built.num_doubles else ""
    message += f" ({left_out:,} left out by --max-bytes)" if left_out else ""
    message += f", {tally.text_bytes:,} bytes of text in {_files(tally.num_files)}"
    if built.is_cut:
        every = order.heldout_every
        message += f"; fewer than {every}, so about the last 1/{every} of each is held out"
    return message


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count:,} files"


def _left_out(order: "Order", built: "Built") -> list[str]:
    """Return lines about what was converted and what was left out, with one command per kind of file."""
    tally, inputs, lines = built.tally, order.inputs, list[str]()
    if tally.num_chats:
        lines.append(f"conversations: {tally.num_chats:,}, by the template {order.form.template}")
    lines += [
        f"read as text: {name}, {_files(count)}" for name, count in sorted(tally.read_as.items())
    ]
    for found in sorted(tally.left_out.values(), key=lambda found: found.kind.name):
        which = found.example if found.num_files == 1 else f"such as {found.example}"
        lines.append(
            f"left out, no text: {found.kind.name}, {_files(found.num_files)}, {found.num_bytes:,} bytes,"
            f" {which}"
        )
        lines.append(f"  try: {found.hint}")
    reasons = (
        (tally.num_empty_files, "empty files"),
        (tally.num_empty, "lines or rows without text"),
        (sum(tally.parts.values()), f"parts of messages ({', '.join(sorted(tally.parts))})"),
        (inputs.num_links, "links inside folders, not followed"),
        (inputs.num_hidden, "hidden files and folders"),
        (inputs.num_datasets, "datasets inside folders"),
        (inputs.num_special, "pipes, sockets or devices"),
    )
    return lines + [f"left out: {reason}: {count:,}" for count, reason in reasons if count]


def _row(dataset: "Dataset") -> dict[str, object]:
    manifest = dataset.manifest
    return {
        "name": dataset.folder.name,
        "dir": str(dataset.folder),
        "hash": manifest.digest.hex(),
        "tokenizer": manifest.tokenizer,
        "dtype": manifest.dtype,
        "token_ids": manifest.num_token_ids,
        "documents": manifest.num_documents,
        "train_tokens": manifest.num_tokens(manifest.train),
        "heldout_tokens": manifest.num_tokens(manifest.heldout),
        "bytes": dataset.num_bytes,
        "train_root": manifest.train.root.hex(),
        "heldout_root": manifest.heldout.root.hex(),
    }


def _columns(row: dict[str, object]) -> list[str]:
    from swarm.cli.style import human_bytes
    from swarm.events import printable

    if "error" in row:
        return [printable(str(row["name"]), 64), "damaged", "", "", "", "", str(row["error"])[:200]]
    size = human_bytes(row["bytes"])
    used = row["used_by"]
    runs = ", ".join(used) if isinstance(used, list) and used else "-"
    tokens, heldout = f"{row['train_tokens']:,}", f"{row['heldout_tokens']:,}"
    ids = str(row["token_ids"])
    return [
        printable(str(row["name"]), 64),
        tokens,
        heldout,
        size,
        ids,
        str(row["hash"])[:16],
        runs,
    ]


def _used_by(home: Path) -> dict[str, list[str]]:
    """Return the names of the runs on this home's ledger by the roots of their text; none without a ledger."""
    from swarm.ledger.reader import read_state
    from swarm.store import STORE_FILE

    if not (home / STORE_FILE).is_file():
        return {}
    try:
        runs = read_state(home).runs()
    except UsageError:
        return {}
    used: dict[str, list[str]] = {}
    for run in runs:
        data = run.spec.data
        for root in (data.train_root, data.heldout_root, data.tokenizer_root):
            used.setdefault(root.hex(), []).append(run.spec.name)
    return used


def _unfinished(home: Path, used: dict[str, list[str]]) -> list[dict[str, object]]:
    """List unfinished downloads, the one untouched for longest first."""
    from swarm.gossip.blobs.disk import BLOBS, partials

    return [
        {
            "unfinished": found.root.hex(),
            "bytes": found.num_bytes,
            "held_bytes": found.held_bytes,
            "touched_s": int(found.touched_s),
            "used_by": used.get(found.root.hex(), []),
        }
        for found in partials(home / BLOBS)
    ]


def _left_columns(row: dict[str, object]) -> list[str]:
    from swarm.cli.style import human_bytes

    used, touched = row["used_by"], row["touched_s"]
    runs = ", ".join(used) if isinstance(used, list) and used else "-"
    at = time.localtime(touched if isinstance(touched, int) else 0)
    return [
        str(row["unfinished"])[:16],
        human_bytes(row["held_bytes"]),
        human_bytes(row["bytes"]),
        time.strftime("%Y-%m-%d %H:%M", at),
        runs,
    ]
