"""Say where a run stands and how good its model is: the same words in every view.

Core: the ``run`` of /api/v1/state in, words out.
"""

from swarm.cli.picture import Picture, number, text, whole


def progress(run: Picture) -> str:
    """Which round it is in, or what else happens to it: ``round 7/22``, ``agreeing: round 1 of 3``."""
    phase, round_, rounds = text(run, "phase"), whole(run, "round"), whole(run, "rounds")
    of = f"round {round_}/{rounds}" if rounds else f"round {round_}"
    if phase == "open" and not round_:
        return f"{rounds} rounds, the first begins soon"
    if phase == "open":
        return f"{of}, goes on soon"
    if phase == "paused":
        return f"paused after {of}"
    if phase == "cooling":
        step, steps = whole(run, "consensus_round"), whole(run, "consensus_rounds")
        return f"{rounds} rounds trained, agreeing: round {step} of {steps}"
    if phase in {"finished", "settled"}:
        agreed = whole(run, "consensus_rounds")
        return f"{rounds} rounds done" + (f", agreed in {agreed} more" if agreed else "")
    return f"{of}, then a pause" if run.get("is_pausing") is True else of


def phase_text(run: Picture) -> str:
    """The phase on the ledger, with what it means where the word does not say it."""
    phase = text(run, "phase")
    return "cooling: the replicas of each stage become one" if phase == "cooling" else phase


def training_loss(run: Picture) -> str:
    """``training loss 1.579``: the mean of what the peers report of their own steps."""
    loss = number(run, "loss_nats")
    return f"training loss {loss:.3f}" if loss is not None else "training loss -"


def quality(run: Picture) -> str:
    """``held-out loss 1.612 nats, perplexity 5.01: round 20, measured by this node``."""
    loss = number(run, "heldout")
    if loss is None and run.get("is_measured_here") is True:
        return "not measured on held-out text yet"
    if loss is None:
        return "not measured on held-out text by this node; swarm eval does it"
    return f"held-out loss {loss:.3f} nats, {_perplexity(run)}: {measured_at(run)}, measured by this node"


def quality_brief(run: Picture) -> str:
    """The same for a line that says much else: ``perplexity 5.01 here, round 20``."""
    is_known = number(run, "perplexity") is not None
    return f"{_perplexity(run)} here, {measured_at(run)}" if is_known else ""


def measured_at(run: Picture) -> str:
    """Of which weights the held-out loss is: ``before training``, ``round 20``, ``all agreed``."""
    if number(run, "heldout_round") is None:
        return "round unknown"
    round_, rounds = whole(run, "heldout_round"), whole(run, "rounds")
    if not round_:
        return "before training"
    into = round_ - rounds
    if not rounds or into <= 0:
        return f"round {round_}"
    if into >= whole(run, "consensus_rounds"):
        return "all agreed"
    return f"{into} of {whole(run, 'consensus_rounds')} rounds agreed"


def _perplexity(run: Picture) -> str:
    found = number(run, "perplexity")
    return "perplexity -" if found is None else f"perplexity {found:.2f}"
