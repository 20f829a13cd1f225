"""Define the model: layers, pipeline stages, operator tables and the inner optimizer.

Modules (C: pure, S: does I/O):

    llama.py     C  A Llama-style decoder as a list of layers: tensor shapes, and each layer as a
                    function.
    operators.py C  What a table of operators is: the signatures that every numerics profile fills
                    in.
    optimizer.py C  One local step: sum the gradients of micro-batches exactly, clip, update with
                    AdamW.
    profiles.py  C  The one table through which all arithmetic of the model and the optimizer goes.
    stages.py    C  Cut the model into pipeline stages; a shard is one flat float32 vector, and
                    back, exactly.
    exact/          Compute every operator in one fixed order, so that all machines get the same
                    bits.
"""
