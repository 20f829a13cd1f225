"""Take the model out and use it: export, eval, generate.

Shell: reads and writes model folders; the arithmetic is training's.
"""

import math
import time
from pathlib import Path
from typing import Annotated

import typer

from swarm.cli.terminal import terminal
from swarm.errors import UsageError

HELDOUT_WINDOWS = 512
"""The standard error of the mean over 65,000 predictions is below a hundredth of a nat."""


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("export", short_help="Write the model for transformers.")(export)
    app.command("eval", short_help="Measure a model on held-out text.")(eval_)
    app.command("generate")(generate)


def export(
    folder: Annotated[str, typer.Argument(help="Where to; made if it is not there.")],
    initial: Annotated[
        bool, typer.Option("--initial", help="The model before training, for comparison.")
    ] = False,
) -> None:
    """Write the run's newest checkpoint as a folder that transformers' LlamaForCausalLM loads."""
    from swarm.cli.sources import model_of_run, save_model

    desk, out = terminal(), Path(folder)
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file", hint="swarm export ANOTHER_FOLDER")
    if out.is_dir() and any(out.iterdir()) and not desk.options.yes:
        raise UsageError(f"{out} is not empty", hint=f"swarm export {out} --yes, or another folder")
    model = model_of_run(desk.home, initial=initial)
    save_model(out, model)
    row = {"dir": str(out), "round": model.round, "parameters": model.params_P.numel()}
    where = "before training" if initial else f"of round {model.round}"
    desk.data(row, [f"{out}: {row['parameters']} parameters {where}"])


def eval_(
    folder: Annotated[str, typer.Argument(help="An exported model.")],
    data: Annotated[
        str, typer.Option(help="Text to predict; without it, the held-out text of this home's run.")
    ] = "",
    windows: Annotated[int, typer.Option(help="Stretches of the text to predict.", min=1)] = (
        HELDOUT_WINDOWS
    ),
) -> None:
    """Measure how well an exported model predicts text it was not trained on."""
    from swarm.cli.sources import heldout_of_run, load_model, tokenizer_of
    from swarm.training.data_files import encode_file, open_tokens
    from swarm.training.evaluate import heldout_loss, whole_model
    from swarm.training.ops import table

    desk = terminal()
    model = load_model(Path(folder))
    tokenizer = tokenizer_of(model)
    if data:
        path, tokens = Path(data), encode_file(Path(data), tokenizer)
    else:
        path, dtype = heldout_of_run(desk.home)
        tokens = open_tokens(path, dtype)
    began = time.perf_counter()
    stage = whole_model(model.spec, table("native"))
    loss = heldout_loss(stage, model.params_P, tokens, num_windows=windows)
    # What the tokens of a run stand for is not known by their number: only a text tells its bytes.
    num_bytes = path.stat().st_size if data or not tokenizer.raw else 0
    bits = loss / math.log(2) * len(tokens) / num_bytes if num_bytes else None
    row = {
        "dir": folder,
        "data": str(path),
        "bytes": num_bytes or None,
        "tokens": len(tokens),
        "windows": windows,
        "loss_nats": loss,
        "bits_per_byte": bits,
        "seconds": round(time.perf_counter() - began, 2),
    }
    unit = "token" if tokenizer.raw else "byte"
    more = "" if bits is None else f", {bits:.4f} bits per byte"
    desk.data(row, [f"{loss:.4f} nats per {unit}{more}"])


def generate(
    prompt: Annotated[str, typer.Option("--prompt", "-p", help="How the text begins.")] = "def ",
    folder: Annotated[
        str, typer.Option("--model", "-m", help="An exported model; without it, this home's run.")
    ] = "",
    count: Annotated[int, typer.Option(help="Tokens to write.", min=1, max=100_000)] = 400,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest.", min=0.0)] = 0.8,
    top_k: Annotated[int, typer.Option(help="Choose among the likeliest.", min=1)] = 40,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.", min=0)] = 0,
) -> None:
    """Let the model write."""
    from swarm.cli.sources import load_model, model_of_run, tokenizer_of
    from swarm.rng import stream
    from swarm.training.evaluate import whole_model
    from swarm.training.generate import generate as sample
    from swarm.training.ops import table

    desk = terminal()
    if not prompt:
        raise UsageError("the prompt is empty", hint='swarm generate -p "def "')
    model = load_model(Path(folder)) if folder else model_of_run(desk.home, initial=False)
    tokenizer = tokenizer_of(model)
    (encoded,) = tokenizer.encode([prompt.encode("utf-8")])
    begun = [int(token) for token in encoded]
    stage = whole_model(model.spec, table("native"))
    dice = stream(seed.to_bytes(8, "big"), "cli.generate")
    tokens = sample(
        stage,
        model.params_P,
        begun,
        count,
        dice,
        temperature=temperature,
        top_k=top_k,
    )
    # Decoded with its prompt: a tokenizer may drop the space before the first word.
    whole, known = tokenizer.decode([*begun, *tokens]), tokenizer.decode(begun)
    written = whole.removeprefix(known).decode("utf-8", "replace")
    desk.data({"prompt": prompt, "text": written, "seed": seed}, [_shown(prompt + written)])


def _shown(text: str) -> str:
    """The text without what could steer the terminal: a model may write any byte."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text.replace("\t", "    "))
