"""Run the demo: peers on this machine, one of them killed, one of them cheating.

Modules (C: pure, S: does I/O):

    cheating_peer.py S  A peer of the demo that cheats: it skips every second optimizer step, and
                        commits as if it had taken it.
    command.py       S  The main job: nine peers on this machine train one model; one is killed and
                        returns, one lies and is caught.
    peer.py          S  Set the stage of the demo: homes, keys, one genesis, the run file, a folder
                        for the logs.
    processes.py     S  The processes of the demo: start them, watch them, weigh them, and leave
                        none behind.
    report.py        C  The closing words of the demo: one object, and the same for people.
    results.py       S  Find out what the demo achieved, by separate processes that read what it
                        left on disk.
    scenario.py      C  The script of the demo: who takes part, and what happens when.
    watch.py         S  Look at the swarm of the demo from outside, and say how it goes.
"""
