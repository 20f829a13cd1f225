"""Ask the router of a home to forward the port of this node: UPnP, as far as that takes.

    node --search, by multicast--> router --where its description is--> node
    node --description--> router --its services--> node --a port, for an hour--> router

A client of our own, of a few hundred lines: miniupnpc, which libp2p brings along, is C that reads a stranger's
XML in this process, follows its addresses to any host, waits as long as that likes in a thread that cannot be
cancelled, and has no wheel for Python 3.14. Here all that a router says is bounded and checked before it is
used, and nobody is called but who answered, in our own network.

Modules (C: pure, S: does I/O):

    mapper.py   S  Keep a port of the router forwarded to this node, where there is a router that
                   does so.
    messages.py C  Write what a router is asked, and read what it answers, which may be anything.
"""
