"""Turn data into weights: one pipeline seat, its steps, its averaging and its record.

Modules (C: pure, S: does I/O):

    messages.py    C  Define the messages between stages: micro-batches up, gradients down, each
                      signed.
    pipeline.py    S  Serve the seats of this node and carry micro-batches to the next stage: the
                      entry point of training.
    plan.py        C  Plan one round of a run: ledger facts that every seat reads at the boundary,
                      and routes of micro-batches.
    recorder.py    C  Run a seat's computations and record them: the log it commits to, and the
                      windows for replays.
    seat.py        S  Run one seat: admit micro-batches, compute them, step, and close the segment
                      at the boundary.
    shard.py       C  One replica of one stage: its weights, its optimizers, and the arithmetic of a
                      micro-batch and a merge.
    starts.py      C  Describe the state that each stage of a run begins with, as the spec has it.
    step_policy.py C  Decide when a seat takes its next optimizer step.
    terms.py       C  Derive the terms of a trade (partner, direction, weight), and the reaction of
                      a replica to its lag.
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
