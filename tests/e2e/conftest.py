"""Give each module of real processes its network, and say what they printed when a test fails.

A module is one network, and two modules run at once where pytest-xdist has two workers (scripts/test): each
waits for rounds, blocks and timeouts for half of its time, which the other uses.
"""

from collections.abc import Generator

import pytest

from tests.e2e.localnet import Localnet, Node

LONGEST_FIRST = (
    "founder life models readme strangers adapter checking own_dataset spots forced steering devices"
    " two_faced finished whistle fetch forgetful"
)
"""Modules in the order in which they are handed out, so that the workers end at about the same time."""


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Generator[Localnet]:
    """An empty network; everything in it ends with the module."""
    network = Localnet(tmp_path_factory.mktemp("net") / "swarm")
    try:
        yield network
    finally:
        network.close()


@pytest.fixture(scope="module")
def launcher(net: Localnet) -> Node:
    """A lone launch that trains for as long as the module takes."""
    return net.launch("launcher")


@pytest.fixture(scope="module")
def ticket(launcher: Node) -> str:
    """How to join it."""
    return launcher.ticket()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hand out the longest modules first; any other test stays where it was, behind them."""
    order = {f"test_{name}": number for number, name in enumerate(LONGEST_FIRST.split())}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under a failure, the ends of the logs and the command that tries it again."""
    report = yield
    network = getattr(item, "funcargs", {}).get("net")
    if report.failed and isinstance(network, Localnet):
        report.sections.append(("nodes", network.tails()))
        report.sections.append(
            (
                "again",
                f'.venv/bin/pytest -x "{item.nodeid}" --basetemp=/tmp/swarm-e2e  # homes stay',
            )
        )
    return report
