"""Merge a partner's fragment into a replica: outer step, robust weights, adoption of state.

Modules (C: pure, S: does I/O):

    adoption.py   C  Request a replica's committed state, verify it against the ledger, and derive
                     the state to continue with.
    outer_step.py C  Apply the outer step of NoLoCo to one fragment: two replicas move together, or
                     one takes a solo step.
    payload.py    C  Build the payload of a fragment, choose its codec, and read the payload of a
                     partner.
    robust.py     C  Check a partner's fragment: its distance against how far both can have moved,
                     and its effect on the loss.
    trade_plan.py C  Decide one trade: publish a fragment, pull the partner's or a standby's, and
                     merge it or step alone.
"""
