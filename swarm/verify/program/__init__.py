"""Programs: every operator of a micro-batch, an update and a merge, by number, to the same bits as training.

Modules (C: pure, S: does I/O):

    account.py          C  Say what happened in a window, event by event: its leaf and the state
                           after it.
    brief.py            C  Leave out of an opening what both sides know, and put it back.
    cases.py            C  Bind the programs of a step to what is committed around them: states,
                           messages, a text.
    computed.py         C  Compute one event of a window by its programs, from the log of the
                           window.
    dispute.py          C  Play a dispute about a window: from two accounts of it down to one
                           element of one operator.
    events.py           C  Decide the events of a window that are no steps: an anchor, a copy of a
                           fragment, its merge, the end.
    game.py             C  Play a dispute about one program down to one element: the solver opens
                           its trace, the challenger points.
    merge.py            C  Derive the programs of a fragment: its copy, and its merge with a
                           partner's or alone.
    merge_operators.py  C  Operators of a merge: the outer step, what a payload leaves unsaid, and
                           what declines a partner.
    microbatch.py       C  Derive the program of a micro-batch in one stage: forward, loss or
                           gradient from above, backward.
    model_operators.py  C  Operators of the model: norms, products, attention, tokens, loss, forward
                           and backward.
    nodes.py            C  Represent a computation as a list of nodes, run it node by node, and
                           compute one element of one node.
    opened.py           C  Check a step of a window that its solver opens: its leaf, its counters,
                           its micro-batches.
    operators.py        C  Define what an operator of a program is: it computes a whole tensor, and
                           any one element of it.
    players.py          C  Play both sides of a dispute from the log of a window.
    reveal.py           C  Commit to all values of a program, reveal what one element of one node is
                           computed from, and judge it.
    shown.py            C  Show that a solver has opened an event with other inputs than those of
                           the log that it signed.
    splits.py           C  Say how many layers of a tree a split opens: few bytes, within ten
                           rounds.
    states.py           C  Check what a solver shows of the states around an event: their ten parts,
                           and the counters among them.
    tracing.py          C  Run a program and keep the digests of its values, but not the values.
    update.py           C  Derive the program of one optimizer step: mean gradient, clip, AdamW, and
                           Muon where the run has it.
    update_operators.py C  Operators of an update: mean gradient, clip, AdamW, Muon.
    wire.py             C  Add to a program the values that bytes carry, and the bytes that carry
                           values.
    wire_operators.py   C  Operators between values and the bytes that carry them: bfloat16,
                           float32, and blocks of levels.
"""
