"""A run of real processes that came to its last round leaves a model that can be used."""

import pytest

from tests.e2e.localnet import Localnet

pytestmark = pytest.mark.e2e

ROUNDS = 4


def test_the_model_of_a_finished_run_can_be_used(net: Localnet) -> None:
    """Export, measure, generate; the trained model predicts better than the untrained one."""
    short = net.launch("short", rounds=ROUNDS)
    short.wait_event("run_finished")
    short.wait(
        "a checkpoint of the last boundary from every stage",
        lambda s: [stage[:1] and stage[0][0] for stage in s["run"]["checkpoints"]] == [ROUNDS] * 2,
    )
    exported = net.wait(
        "the last checkpoint",
        lambda: (done := net.export(short, "model")).returncode == 0 and done,
        node=short,
    )
    assert exported.returncode == 0
    short.stop()
    model = str(net.folder / "model")
    trained, untrained = (
        net.read("eval", which, "--windows", "16", home=short.home)
        for which in (model, "--initial")
    )
    assert trained["loss_nats"] < untrained["loss_nats"]
    written = net.read("generate", "-p", "line", "-m", model, "--count", "20", home=short.home)
    assert written["prompt"] == "line"
    assert written["text"]
