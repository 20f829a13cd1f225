"""Merge a partner's fragment into a replica: outer step, robust weights, adoption of state.

Modules (C: pure, S: does I/O):

    adoption.py   C  Take over what a sibling committed: whom to ask, what is said, and what proves
                     that it is the sibling's own.
    outer_step.py C  Apply the outer step to one fragment, or decline the partner that would take it
                     too far.
    payload.py    C  What of a fragment travels, in which codec, and how it is read on the other
                     side.
    robust.py     C  Doubt a partner's fragment: how far it is, against how far partners usually
                     are.
"""
