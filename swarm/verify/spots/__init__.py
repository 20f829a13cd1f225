"""Spot checks: a step of a window is checked at elements that nobody knew before its traces were committed.

Modules (C: pure, S: does I/O):

    checking.py  C  Check a window at drawn elements, from what its solver states and shows: the
                    verifier's half of a spot check.
    elements.py  C  Draw elements of a trace, show them with all that they are computed from, and
                    check what is shown.
    exchange.py  C  Define how a verifier asks a solver for the spot check of a window.
    forced.py    C  Make a statement false on purpose, where the draw of a verifier forces it, and
                    draw what shows that it was.
    proof.py     C  Prove that a solver stated something false: one element of one trace, or a claim
                    that is not the ledger's.
    service.py   S  Check the windows of others at drawn elements, and show those of our own: the
                    spot checks of a node.
    solving.py   C  State a window, and show what a seed asks for: the solver's half of a spot
                    check.
    statement.py C  Define what a solver states of a window before anybody knows where it is
                    checked, and the traces in that.
"""
