"""Draw what a benchmark found as PNG files. Needs matplotlib: ``pip install -e .[bench]``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swarm.errors import UsageError

PLOTTED = (
    "isolated gossip diloco noloco noloco_int4 noloco_lost30 noloco_churn25 noloco_fragments5 sync"
).split()
"""The variants whose curves are worth telling apart by eye."""
DOTS_PER_INCH = 130


def require() -> None:
    """Raise ``UsageError`` before hours of measuring when nothing could be drawn."""
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError:
        raise UsageError(
            "plots need matplotlib",
            hint=".venv/bin/python -m pip install -c constraints.txt -e .[bench]",
        ) from None


def draw_train(detail: Mapping[str, Any], folder: Path) -> None:
    """Loss curves, the distance of each variant from NoLoCo, and std against the learning rate."""
    plt = _pyplot()
    folder.mkdir(parents=True, exist_ok=True)
    _curves(plt, detail["curves"], folder / "train-curves.png")
    _losses(plt, detail["nats"], folder / "train-losses.png")
    if detail["std_by_round"]:
        _stds(plt, detail, folder / "train-std.png")


def _pyplot() -> Any:  # noqa: ANN401  (matplotlib is optional)
    require()
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    return plt


def _curves(plt: Any, curves: Mapping[str, Any], path: Path) -> None:  # noqa: ANN401
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for name in PLOTTED:
        if name in curves:
            steps, nats = zip(*curves[name], strict=True)
            axes.plot(steps, nats, label=name.replace("_", " "), linewidth=1.4)
    axes.set(xlabel="inner steps", ylabel="held-out nats per byte, averaged model")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    _save(plt, figure, path)


def _losses(plt: Any, nats: Mapping[str, Any], path: Path) -> None:  # noqa: ANN401
    known = {name: found for name, found in nats.items() if found.get("n")}
    names = sorted(known, key=lambda name: -float(known[name]["median"]))
    middle = [float(known[name]["median"]) for name in names]
    low = [m - float(known[n]["min"]) for n, m in zip(names, middle, strict=True)]
    high = [float(known[n]["max"]) - m for n, m in zip(names, middle, strict=True)]
    figure, axes = plt.subplots(figsize=(7, 0.32 * len(names) + 1.2))
    labels = [name.replace("_", " ") for name in names]
    axes.errorbar(middle, labels, xerr=[low, high], fmt="o", capsize=3)
    axes.set(xlabel="held-out nats per byte (median over seeds, least and most)")
    axes.grid(alpha=0.3)
    _save(plt, figure, path)


def _stds(plt: Any, detail: Mapping[str, Any], path: Path) -> None:  # noqa: ANN401
    figure, axes = plt.subplots(figsize=(7, 3.6))
    for stds in detail["std_by_round"]:
        axes.plot(range(1, len(stds) + 1), stds, linewidth=1.2)
    axes.set(xlabel="round", ylabel="std across replicas (one line per seed)")
    right = axes.twinx()
    rates = detail["rate_by_round"][0]
    right.plot(range(1, len(rates) + 1), rates, color="black", linestyle=":", linewidth=1.2)
    right.set_ylabel("learning rate (dotted)")
    axes.grid(alpha=0.3)
    _save(plt, figure, path)


def _save(plt: Any, figure: Any, path: Path) -> None:  # noqa: ANN401
    figure.tight_layout()
    figure.savefig(path, dpi=DOTS_PER_INCH)
    plt.close(figure)
