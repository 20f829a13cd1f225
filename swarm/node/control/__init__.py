"""Decide what this node does next, from final ledger state, and start it.

Modules (C: pure, S: does I/O):

    controller.py S  Ask what is due after every block, and see that it is done.
    planner.py    C  Given what I know, what is my next duty?
    token_rate.py C  Tokens per second, however long a step takes.
"""
