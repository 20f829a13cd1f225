"""Train: turn data into weights.

ops.py           C  operator tables of the model and the optimizer
operators.py     C  the interface of an operator table
device_ops.py    C  the native operators for accelerators, in float32 or bfloat16
model.py         C  a Llama-style decoder as a list of layers
stages.py        C  cut it into pipeline stages; shard <-> flat vector; forward and backward
data.py          C  text to tokens, sample ids to windows
data_files.py    S  find and read the files of a corpus
split.py         C  assign documents to the training half, the held-out half, or neither
tokenizer.py     C  text to token ids and back: bytes, or a tokenizers file
telling.py       C  decode generated tokens to text incrementally
dataset.py       C  the manifest of a dataset: two token files and a tokenizer
dataset_build.py S  build a dataset from documents, in bounded memory
dataset_files.py S  open, list and verify the datasets on this disk
documents.py     S  documents in text, JSON Lines and Parquet files
parquet.py       S  one text column of a Parquet file
sorting.py       S  sort documents by name and drop duplicates, in bounded memory
token_files.py   S  write and check token files, a chunk at a time
regular_files.py S  open regular files only
routing.py       C  a micro-batch's path through random replicas
round_plan.py    C  the roster and parameters that every seat reads at a round boundary
messages.py      C  micro-batches up, gradients down, each signed
outgoing.py      C  a micro-batch on its way to the next stage
inner.py         C  exact gradient sums, clip, AdamW
robust.py        C  distance and loss checks of a partner's fragment
terms.py         C  the partner of a fragment, the direction of the trade and its weight
outer.py         C  the outer step: NoLoCo with one or two tensors, gossip, solo step, final averaging
lag.py           C  lag limits, and restarting from another replica's state
adoption.py      C  request and verify the state of another replica
baselines.py     C  baselines for NoLoCo: DiLoCo, synchronous data parallelism
fragments.py     C  a fragment on its way into an outer step
offers.py        C  the payload of a fragment and its codec
merging.py       C  the outer step of one fragment, with or without its partner
segment.py       C  the events of one segment, in order
stepper.py       C  decide when a seat takes its next optimizer step
state.py         C  the whole state of a seat as values
devices.py       C  choose the devices that a node computes on
device_probe.py  S  list the devices that torch finds on this machine
engine.py        C  the compute engine of a shard; one device in this process
compiled_stage.py C  a stage through torch.compile
device_sum.py    C  the exact sum of gradients, on the device
device_group.py  S  several devices as one engine: micro-batches split over processes
device_processes.py S  start, talk to and end the device processes
device_worker.py S  one device process
device_messages.py C  messages between a node and a device process
shared_tensors.py S  memory shared between a node and its device processes
open_step.py     C  gradients and micro-batches of the open step
shard.py         C  one replica of one stage, as tensors and the operations on them
scribe.py        C  a seat's jobs, with everything a replay needs recorded
window_heads.py  C  the header of a window's bytes, with its bounds
window.py        C  the replay record of a window
replaying.py     C  recompute a recorded micro-batch
resume.py        C  restore a shard from its saved bytes, or from the start of a window
checkpoint.py    C  a shard's state as canonical bytes, and back
export.py        C  the whole model in the layout of transformers' Llama
hf_config.py     C  config.json of transformers' Llama, written, and read as untrusted input
weight_files.py  C  the header of a safetensors file, and its numbers as float32
hf_import.py     S  a folder of transformers' Llama into the flat vector of a stage
evaluate.py      C  held-out loss in nats per token
kv_cache.py      C  keys and values of the positions so far, one stage at a time
generate.py      C  sampling, and the positions to compute next
inference.py     C  messages of pipeline inference with one stage
sessions.py      C  generation sessions that a stage holds for other peers, bounded
runner.py        S  run one seat: admit, compute, step, close
service.py       S  entry point: serve seats, carry micro-batches to the next stage

repops/ holds the operators of the exact profile, with a map of its own.
"""
