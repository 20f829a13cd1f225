"""Decide what this node does next, from final ledger state, and start it.

Modules (C: pure, S: does I/O):

    controller.py S  Derive the due duties after every block and start them, and report verdicts
                     that concern this node.
    holding.py    C  Plan what a node that is drawn to hold checkpoints of other stages has to
                     fetch, to say and to show.
    planner.py    C  Plan the duties of a node that are due, from what it knows.
"""
