"""Merge a partner's fragment into a replica: outer step, robust weights, adoption of state.

Modules (C: pure, S: does I/O):

    adoption.py   C  Request the committed state of a replica of the same stage and verify it
                     against the ledger.
    outer_step.py C  Apply the outer step to one fragment, or decline a partner whose fragment would
                     make the values too large.
    payload.py    C  Build the payload of a fragment, choose its codec, and read the payload of a
                     partner.
    robust.py     C  Check a partner's fragment: its distance against usual distances, and its
                     effect on the loss.
    trade_plan.py C  Decide one trade: publish a fragment, pull the partner's or a standby's, and
                     merge it or step alone.
"""
