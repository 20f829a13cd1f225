"""Export the run's model, evaluate a model, and let it write: export, eval, generate.

Shell: reads and writes model folders; ``swarm.training`` does the arithmetic.

The first token of a text waits for the prompt, and in the swarm for peers that may read a checkpoint from their
disk: its time is given separately, and the overall rate includes it.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from swarm.cli.terminal import terminal
from swarm.errors import SwarmError, UsageError


class Throughput:
    """Tokens of one text and their time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Start the time; ``clock`` returns seconds."""
        self._clock = clock
        self._began = self._first = self._last = clock()
        self.tokens = 0

    def timed(self, tokens: Iterable[int]) -> Iterator[int]:
        """Yield the same tokens, each counted as it comes."""
        for token in tokens:
            self._last = self._clock()
            if not self.tokens:
                self._first = self._last
            self.tokens += 1
            yield token

    @property
    def seconds(self) -> float:
        """Seconds from the first request to the last token so far."""
        return self._last - self._began

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens per second over all of it; None before a token came, or when no time passed."""
        return self.tokens / self.seconds if self.tokens and self.seconds > 0 else None

    def row(self) -> dict[str, object]:
        """Return the fields of ``--json``: tokens, seconds, first_token_s, tokens_per_s."""
        rate = self.tokens_per_s
        return {
            "tokens": self.tokens,
            "seconds": round(self.seconds, 3),
            "first_token_s": round(self._first - self._began, 3) if self.tokens else None,
            "tokens_per_s": None if rate is None else round(rate, 2),
        }

    def text(self, where: str) -> str:
        """Return ``12 tokens in 1.4 s, 8.6 tok/s on this machine (first after 0.31 s)``.

        ``where`` is the part in words, such as "on this machine".
        """
        rate = self.tokens_per_s
        if rate is None:
            return f"{self.tokens} tokens {where}"
        first = f"first after {self._first - self._began:.2f} s"
        return f"{self.tokens} tokens in {self.seconds:.1f} s, {rate:.1f} tok/s {where} ({first})"


if TYPE_CHECKING:
    from swarm.cli.model_sources import Model
    from swarm.training.data.tokenizer import Tokenizer

HELDOUT_WINDOWS = 512
"""Windows of held-out text: the standard error over their 65,000 predictions is below a hundredth of a nat."""
PROMPT_TOKENS_MAX = 8_000
"""Newest tokens of a long prompt that are used: as many as one request to a node may hold."""
POLL_TIMEOUT_S = 60.0
"""Seconds for a request of the next tokens: it is answered within seconds."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("export", short_help="Write the model for transformers.")(export)
    app.command("eval", short_help="Measure a model on held-out text.")(eval_)
    app.command("generate", short_help="Let a model write.")(generate)


def export(
    folder: Annotated[str, typer.Argument(help="Where to; made if it is not there.")],
    initial: Annotated[
        bool, typer.Option("--initial", help="The model before training, for comparison.")
    ] = False,
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="hf: for transformers, an adapter merged; safetensors: the weights alone;"
            " peft: the adapter alone, for PEFT.",
        ),
    ] = "hf",
    base: Annotated[
        str,
        typer.Option(help="With --format peft: the folder below the adapter, checked and named."),
    ] = "",
) -> None:
    """Write the run's newest checkpoint as a folder that transformers loads, with its tokenizer."""
    from swarm.cli.model_sources import adapter_of, model_of_run, save_model, save_proof
    from swarm.training.hf.export import FORMATS, PEFT

    screen, out = terminal(), Path(folder)
    if format_ not in FORMATS:
        raise UsageError(
            f"format is one of {', '.join(FORMATS)}, not {format_[:40]!r}",
            hint=f"swarm export {out} --format hf",
        )
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="swarm export ANOTHER_FOLDER")
    if out.is_dir() and any(out.iterdir()) and not screen.options.yes:
        raise UsageError(f"{out} is not empty", hint=f"swarm export {out} --yes, or another folder")
    if base and format_ != PEFT:
        raise UsageError("--base is for an adapter alone", hint=f"swarm export {out} --format peft")
    model = model_of_run(screen.home, initial=initial)
    save_model(out, model, format_=format_, base=base)
    if not initial and format_ != PEFT:
        save_proof(out, screen.home, model.round)
    written = model.params_P if format_ != PEFT else adapter_of(model)[1]
    row = {"dir": str(out), "round": model.round, "parameters": written.numel()}
    where = "before training" if initial else f"of round {model.round}"
    screen.data({**row, "format": format_}, [f"{out}: {row['parameters']:,} parameters {where}"])
    if format_ == "hf":
        screen.say(f'load it: transformers.pipeline("text-generation", model="{out}")')
        screen.say(f"prove it: swarm checkpoint verify {out}") if not initial else None
    if format_ == PEFT:
        screen.say(f'load it: peft.PeftModel.from_pretrained(MODEL, "{out}")')


def eval_(
    folder: Annotated[
        str, typer.Argument(help="A model folder; without it, this home's newest checkpoint.")
    ] = "",
    data: Annotated[
        str, typer.Option(help="Text to predict; without it, the held-out text of this home's run.")
    ] = "",
    windows: Annotated[int, typer.Option(help="Stretches of the text to predict.", min=1)] = (
        HELDOUT_WINDOWS
    ),
    initial: Annotated[
        bool, typer.Option("--initial", help="Of this home's run, the model before training.")
    ] = False,
    base: Annotated[str, typer.Option(help="The model folder below an adapter's folder.")] = "",
) -> None:
    """Measure how well a model predicts text it was not trained on: loss and perplexity."""
    from swarm.cli.model_sources import heldout_of_run, load_model, model_of_run, tokenizer_of
    from swarm.training.data.disk import encode_file, open_tokens
    from swarm.training.inference.evaluate import heldout_loss, perplexity, whole_model
    from swarm.training.model.profiles import table

    screen = terminal()
    if folder and initial:
        raise UsageError("--initial is of this home's run", hint="swarm eval --initial")
    if data and not Path(data).is_file():
        raise UsageError(f"there is no file {data}", hint="swarm eval --data FILE")
    if base and not folder:
        raise UsageError("--base is for a folder", hint="swarm eval FOLDER --base FOLDER")
    model = load_model(Path(folder), base) if folder else model_of_run(screen.home, initial=initial)
    tokenizer = tokenizer_of(model)
    if data:
        path, tokens = Path(data), encode_file(Path(data), tokenizer)
    else:
        path, dtype = heldout_of_run(screen.home)
        tokens = open_tokens(path, dtype)
    _check_length(path, len(tokens), model)
    began = time.perf_counter()
    stage = whole_model(model.spec, table("native"))
    loss = heldout_loss(stage, model.params_P, tokens, num_windows=windows)
    # What the tokens of a run stand for is not known by their number: only the text has its bytes.
    num_bytes = path.stat().st_size if data or not tokenizer.raw else 0
    bits = loss / math.log(2) * len(tokens) / num_bytes if num_bytes else None
    row = {
        "dir": folder or None,
        "round": model.round if model.round >= 0 else None,
        "data": str(path),
        "bytes": num_bytes or None,
        "tokens": len(tokens),
        "windows": windows,
        "loss_nats": loss,
        "perplexity": perplexity(loss),
        "bits_per_byte": bits,
        "seconds": round(time.perf_counter() - began, 2),
    }
    unit = "token" if tokenizer.raw else "byte"
    more = "" if bits is None else f", {bits:.4f} bits per byte"
    which = folder or ("before training" if initial else f"the checkpoint of round {model.round}")
    result = f"{loss:.4f} nats per {unit}, perplexity {perplexity(loss):.2f}{more}"
    text = data or "the run's held-out text"
    screen.data(row, [f"{which}: {result}; on {text}, {len(tokens):,} {unit}s"])


def _check_length(path: Path, count: int, model: "Model") -> None:
    """Raise ``UsageError`` for a text shorter than one window and the token after it."""
    if count <= model.spec.seq_len:
        raise UsageError(
            f"{path} has {count} tokens, and a window of this model has {model.spec.seq_len}",
            hint="swarm eval --data A_LONGER_TEXT",
        )


def generate(
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="How the text begins.")] = "def ",
    folder: Annotated[
        str, typer.Option("--model", "-m", help="A model folder; without it, this home's run.")
    ] = "",
    swarm: Annotated[
        bool, typer.Option("--swarm", help="Through the stages of the running swarm.")
    ] = False,
    count: Annotated[int, typer.Option(help="Tokens to write.", min=1, max=100_000)] = 400,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest.", min=0.0)] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the likeliest.", min=1)] = 40,
    top_p: Annotated[
        float, typer.Option(help="Choose among the likeliest that together are this likely.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.", min=0)] = 0,
    base: Annotated[str, typer.Option(help="The model folder below an adapter's folder.")] = "",
) -> None:
    """Let the model write; the text appears as it is written.

    With --swarm the node of this home has the peers of its run continue the text, one stage after the other: no
    weights are downloaded. They use the newest checkpoint.
    """
    from swarm.training.inference.sampling import Sampling

    screen = terminal()
    if not prompt:
        raise UsageError("the prompt is empty", hint='swarm generate -p "def "')
    if folder and swarm:
        raise UsageError("--model and --swarm are two models", hint="swarm generate --swarm")
    if seed >= 1 << 64:
        raise UsageError("seed is below 2^64", hint="--seed 0")
    sampling = Sampling(temperature, top_k, top_p)
    request: dict[str, object] = {"count": count, "seed": seed}
    request |= {"temperature": temperature, "top_k": sampling.top_k, "top_p": top_p}
    if swarm:
        tokenizer, begun, tokens, facts = _from_swarm(screen.home, prompt, request)
    else:
        tokenizer, begun, tokens, facts = _from_disk(screen.home, folder, base, prompt, request)
    if not screen.options.json:
        screen.put(_shown(prompt))
    pace = Throughput(time.perf_counter)
    written = _printed(tokenizer, begun, pace.timed(tokens))
    where = "swarm" if swarm else "local"
    row = {"prompt": prompt, "text": written, "seed": seed, "where": where, **facts, **pace.row()}
    screen.data(row, [""])
    screen.say(pace.text(_way(facts) if swarm else "on this machine"))


Writing = tuple["Tokenizer", list[int], Iterator[int], dict[str, object]]
"""Tokenizer, prompt tokens, generated tokens, and the facts about the model."""


def _from_disk(
    home: Path, folder: str, base: str, prompt: str, request: Mapping[str, object]
) -> Writing:
    from swarm.cli.model_sources import load_model, model_of_run, tokenizer_of
    from swarm.primitives.randomness import stream
    from swarm.training.inference.evaluate import whole_model
    from swarm.training.inference.sampling import Sampling
    from swarm.training.inference.sampling import generate as sample
    from swarm.training.model.profiles import table

    if base and not folder:
        raise UsageError("--base is for a folder", hint="swarm generate -m FOLDER --base FOLDER")
    model: Model = load_model(Path(folder), base) if folder else model_of_run(home, initial=False)
    tokenizer = tokenizer_of(model)
    begun = _tokens_of(tokenizer, prompt)
    rng = stream(cast("int", request["seed"]).to_bytes(8, "big"), "cli.generate")
    sampling = Sampling(
        cast("float", request["temperature"]),
        cast("int", request["top_k"]),
        cast("float", request["top_p"]),
    )
    stage, count = whole_model(model.spec, table("native")), cast("int", request["count"])
    tokens = sample(stage, model.params_P, begun, count, rng, sampling)
    return tokenizer, begun, tokens, {"round": model.round if model.round >= 0 else None}


def _from_swarm(home: Path, prompt: str, request: Mapping[str, object]) -> Writing:
    from swarm.cli.client import act, node_of
    from swarm.cli.model_sources import tokenizer_of_run

    address = node_of(home)
    tokenizer = tokenizer_of_run(home)
    begun = _tokens_of(tokenizer, prompt)
    facts: dict[str, object] = {"round": None, "peers": []}

    def tokens() -> Iterator[int]:
        name = act(address, "generate", {**request, "tokens": begun[-PROMPT_TOKENS_MAX:]})["id"]
        is_over = False
        try:
            while not is_over:
                found = act(address, "generate-next", {"id": name}, POLL_TIMEOUT_S)
                is_over = bool(found["is_over"])
                facts.update(round=found["round"], peers=found["peers"])
                yield from cast("list[int]", found["tokens"])
        finally:
            if not is_over:
                with suppress(SwarmError):  # it may be the reason why we are here
                    act(address, "generate-end", {"id": name})

    return tokenizer, begun, tokens(), facts


def _way(facts: Mapping[str, object]) -> str:
    """Return the number of peers that a text went through, in words."""
    count = len(set(cast("list[str]", facts["peers"])))
    return f"through {count} peer{'s' if count != 1 else ''} of the swarm"


def _tokens_of(tokenizer: "Tokenizer", prompt: str) -> list[int]:
    (encoded,) = tokenizer.encode([prompt.encode("utf-8", "replace")])
    return [int(token) for token in encoded]


def _printed(tokenizer: "Tokenizer", begun: list[int], tokens: Iterable[int]) -> str:
    """Print the text after the prompt piece by piece as it comes, and return it; --json prints no pieces."""
    from swarm.training.data.tokenizer import pieces

    screen, printed = terminal(), list[str]()
    for piece in pieces(tokenizer, begun, tokens):
        printed.append(piece)
        if not screen.options.json:
            screen.put(_shown(piece))
    return "".join(printed)


def _shown(text: str) -> str:
    """Return the text without characters that could steer the terminal: a model may write any byte."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\t", "    "))
