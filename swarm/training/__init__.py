"""Turn data into weights: one pipeline seat, its steps, its averaging and its record.

Modules (C: pure, S: does I/O):

    messages.py    C  What stages say to each other: micro-batches up, gradients down, each signed.
    pipeline.py    S  Serve the seats of this node and carry micro-batches to the next stage: the
                      door of training.
    plan.py        C  What every seat of a run reads at a round boundary, and the routes that follow
                      from it.
    recorder.py    C  Do a seat's arithmetic and write down what happened: the log it commits to,
                      the windows it can show.
    seat.py        S  Run one seat: admit micro-batches, compute them, step, and close the segment
                      at the boundary.
    shard.py       C  One replica of one stage: its weights, its optimizers, and the arithmetic of a
                      micro-batch and a merge.
    step_policy.py C  Decide when a seat takes its next optimizer step.
    terms.py       C  The terms of a trade: with whom, whether anything may be taken, and how much
                      it weighs.
    averaging/        Merge a partner's fragment into a replica: outer step, robust weights,
                      adoption of state.
    data/             Turn documents into token files, and sample ids into windows of tokens.
    devices/          Run a stage on the devices of this machine: one in process, or one process per
                      device.
    hf/               Read and write folders in the layout of transformers' Llama.
    inference/        Evaluate a model and sample from it, here or through the stages of the live
                      swarm.
    model/            Define the model: layers, pipeline stages, operator tables and the inner
                      optimizer.
    record/           Record a segment so that others can compute it again: windows, state,
                      checkpoints.
"""
