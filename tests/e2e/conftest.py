"""Give each module of real processes its network, and say what they printed when a test fails."""

from collections.abc import Generator

import pytest

from tests.e2e.localnet import Localnet, Node


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
