"""Be the `swarm` command: entry point, options, terminal and shared views.

Modules (C: pure, S: does I/O):

    client.py        S  Talk to the node that runs on this machine: its address and token lie in its
                        home folder.
    errors.py        S  Say what went wrong in one sentence, and what mends it in one command.
    main.py          S  The command line: ``swarm COMMAND``.
    model_sources.py S  Where a model comes from: an exported folder, or the run that this home
                        takes part in.
    options.py       C  The flags that every command takes, wherever on the line they stand.
    run_node.py      S  Run a node in this process: Ctrl-C ends it in time, and it is never silent
                        for long.
    state_reader.py  C  Read the object of /api/v1/state without trusting its shape.
    style.py         C  Colours for a terminal, or none at all.
    terminal.py      S  What a command prints: data on stdout, messages on stderr, colour only where
                        it is wanted.
    views.py         C  The picture of a node as lines of text: status, map, peers, run.
    commands/           Implement the subcommands of `swarm`, one module per group.
    demo/               Run the demo: peers on this machine, one of them killed, one of them
                        cheating.
"""
