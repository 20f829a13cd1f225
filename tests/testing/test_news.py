"""The simulated network of news loses what it is told to lose, and repeats itself."""

import pytest

from swarm.testing.news import DELAY_MS_MAX, NewsNetwork, connected_at_random


def test_a_notice_takes_a_link_at_least_and_a_few_at_most() -> None:
    network = NewsNetwork(1)
    peers = connected_at_random(network, 8, 3)
    network.run(3)
    name = network.publish(peers[0], b"statement")
    network.run(2)
    assert len(network.delays_s()) == 7
    assert 0 < max(network.delays_s()) < 4 * DELAY_MS_MAX / 1000
    assert peers[7].heard[name] > network.published[name]


@pytest.mark.parametrize("lost_per_mille", [0, 1000])
def test_as_much_is_lost_as_was_asked_for(lost_per_mille: int) -> None:
    network = NewsNetwork(1, lost_per_mille=lost_per_mille)
    one, two = network.add(1), network.add(2)
    network.connect(one, two)
    network.run(3)
    network.publish(one, b"statement")
    network.run(20)
    assert (max(network.delays_s()) < 1) is not bool(lost_per_mille)
