"""Provide the `swarm` command: entry point, options, terminal and shared views.

Modules (C: pure, S: does I/O):

    checkup.py       C  Judge what ``swarm doctor`` found on this machine, and take out of a report
                        what is nobody else's business.
    client.py        S  Talk to the node that runs on this machine, by the address and token in its
                        home folder.
    errors.py        S  Explain a failure in one sentence, with one command that helps.
    main.py          S  Run the command line: ``swarm COMMAND``.
    model_sources.py S  Read a model from an exported folder, or from the run that this home takes
                        part in.
    options.py       C  Parse the flags that every command takes, wherever on the line they stand.
    responsive.py    S  Keep a node quick to answer: garbage is searched for a little at a time, and
                        threads take short turns.
    run_node.py      S  Run a node in this process: Ctrl-C ends it in time, and it is never silent
                        for long.
    service_unit.py  C  Write the units of systemd that keep a node running: with caps, and within
                        hours of the day.
    state_reader.py  C  Read a node's state document into the structs of ``swarm.node.api.schema``,
                        and describe it in words.
    streams.py       S  Make the three standard streams safe to write to, whatever they were opened
                        as.
    style.py         C  Format text for a terminal: colours, columns, numbers.
    terminal.py      S  Print the output of a command: data on stdout, messages on stderr, colour
                        only where it is wanted.
    views.py         C  Render a node's state as lines of text: status, map, run, and the table of
                        peers.
    commands/           Implement the subcommands of `swarm`, one module per group.
    demo/               Run the demo: peers on this machine, one of them killed, one of them
                        cheating.
"""
