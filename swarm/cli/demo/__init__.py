"""Run the demo: peers on this machine, one of them killed, one of them cheating.

Modules (C: pure, S: does I/O):

    cheating_peer.py S  Run a cheating peer of the demo: it takes no optimizer step, or gives its
                        partners other weights than it has.
    command.py       S  Run the demo: ten peers on this machine train a model; one is killed and
                        returns, two cheat and are caught.
    peer.py          S  Prepare the demo: homes, keys, one genesis, the settings of each node, a
                        folder for the logs.
    processes.py     S  Manage the processes of the demo: start, watch and measure them, and leave
                        none behind.
    report.py        C  Render the result of the demo, and describe the checks while it runs.
    results.py       S  Measure the results of the demo in separate processes that read what it left
                        on disk.
    scenario.py      C  Decide the scenario of the demo: the roles of its peers, and the moment of
                        each move.
    watch.py         S  Observe the swarm of the demo from outside, and report its progress.
"""
