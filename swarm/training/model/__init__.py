"""Define the model: layers, pipeline stages, operator tables and the inner optimizer.

Modules (C: pure, S: does I/O):

    adapter.py    C  Correct the projections of a layer by a low-rank adapter (LoRA), and merge it
                     into the weights.
    bottleneck.py C  Carry activations over a cut between stages at low rank: the trained bottleneck
                     of a run for home lines.
    llama.py      C  A Llama-style decoder as a list of layers: tensor shapes, and each layer as a
                     function.
    operators.py  C  The interface of an operator table: the signatures that every numerics profile
                     implements.
    optimizer.py  C  One local step: sum the gradients of micro-batches exactly, clip, update with
                     AdamW, or with Muon and AdamW.
    profiles.py   C  Numerics profiles: tables of the operators through which all arithmetic of
                     model and optimizer goes.
    stages.py     C  Cut the model into pipeline stages: their layout in a flat vector, initial
                     weights, and passes.
    exact/           Compute every operator in one fixed order, so that all machines get the same
                     bits.
"""
