"""Reach nodes that nobody can dial: circuit relay v2 of libp2p, and hole punching.

A node that cannot be dialled reserves a place at a relay, which is a node that can. Who wants to talk to it
asks the relay for a circuit: bytes both ways, in which the two shake hands as they would over TCP, so that the
relay sees only what is encrypted.

https://github.com/libp2p/specs/blob/master/relay/circuit-v2.md

Modules (C: pure, S: does I/O):

    bridge.py   S  Carry bytes between two streams, and between a stream and a connection that is
                   dialled through it.
    circuits.py S  Be reached through relays, and dial through them.
    hop.py      S  Relay for peers that cannot be dialled: give them places, and open circuits to
                   them.
    messages.py C  Write and read the messages of circuit relay v2 and of DCUtR.
    places.py   C  Share the places of a relay among those that cannot be dialled, and its circuits
                   among those that dial them.
    punch.py    S  Replace a connection through a relay by a direct one: dial, or dial each other at
                   once (DCUtR).
    setup.py    S  Set up relaying on a host: be reached through relays, punch holes, and carry for
                   others.
"""
