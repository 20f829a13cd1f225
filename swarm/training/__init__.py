"""Train: turn data into weights.

ops.py           C  the one table of operators of model and optimizer
operators.py     C  what such a table is
device_ops.py    C  the native operators as accelerators want them, in float32 or bfloat16
model.py         C  a Llama-style decoder as a list of layers
stages.py        C  cut it into pipeline stages; shard <-> flat vector; forward and backward
data.py          C  text to tokens, sample ids to windows
data_files.py    S  find and read the files a corpus is made of
split.py         C  which documents are trained on, held out, left out
tokenizer.py     C  text to token ids and back: bytes, or a tokenizers file
telling.py       C  the text of tokens, a piece at a time
dataset.py       C  what a dataset is: two token files and a manifest
dataset_build.py S  build one from documents, in bounded memory
dataset_files.py S  open, list and verify those on this disk
documents.py     S  documents in text, JSON Lines and Parquet files
parquet.py       S  one column of text of a Parquet file
sorting.py       S  documents by name, each once, in bounded memory
token_files.py   S  write and check token files, a chunk at a time
regular_files.py S  open what is a plain file, and nothing else
routing.py       C  a micro-batch's path through random replicas
round_plan.py    C  what every seat reads at a round boundary
messages.py      C  micro-batches up, gradients down, each signed
outgoing.py      C  a micro-batch on its way to the next stage
inner.py         C  exact gradient sums, clip, AdamW
robust.py        C  how far a partner is, and how far is too far
terms.py         C  with whom a fragment is traded, whether anything may be taken, and its weight
outer.py         C  the outer step: NoLoCo in one or two tensors, gossip, alone, the consensus at the end
lag.py           C  how far behind is too far, and starting again from another's state
adoption.py      C  whom to ask for a state, and what proves it
baselines.py     C  what NoLoCo is compared with: DiLoCo, synchronous data parallelism
fragments.py     C  a fragment on its way into an outer step
offers.py        C  what of a fragment travels, and in which codec
merging.py       C  the outer step of one fragment, or declining its partner
segment.py       C  what happened in one segment, in order
stepper.py       C  when a seat takes its next optimizer step
state.py         C  the whole state of a seat as values
devices.py       C  which devices a node computes on: wishes against what is there
device_probe.py  S  what torch finds on this machine
engine.py        C  where a shard's arithmetic is done; one device in this process
compiled_stage.py C  a stage through torch.compile
device_sum.py    C  the exact sum of gradients, on the device
device_group.py  S  several devices as one engine: micro-batches split over processes
device_processes.py S  those processes: started, spoken to, ended
device_worker.py S  one of them
device_messages.py C  what a node and such a process say to each other
shared_tensors.py S  the memory that they share
open_step.py     C  what the open step has gathered
shard.py         C  one replica of one stage, as tensors and what moves them
scribe.py        C  a seat's jobs, and what they leave on record
window_heads.py  C  the header of a window's bytes, and what it may say
window.py        C  what a seat keeps of a window, so that others can compute it again
replaying.py     C  a kept micro-batch, computed again
resume.py        C  a shard from its own saved bytes, or from the start of a window
checkpoint.py    C  a shard's state as canonical bytes, and back
export.py        C  the whole model in the layout of transformers' Llama
hf_config.py     C  config.json of transformers' Llama, written and read with suspicion
weight_files.py  C  what a safetensors file says it holds, and its numbers as float32
hf_import.py     S  a folder of transformers' Llama into the flat vector of a stage
evaluate.py      C  held-out loss in nats per token
kv_cache.py      C  keys and values of the positions so far, one stage at a time
generate.py      C  sampling, and which positions to compute next
inference.py     C  one stage asked to go on with a text, as messages
sessions.py      C  the texts a stage goes on with for others, bounded
runner.py        S  one seat, living: admit, compute, step, close
service.py       S  the door: serve seats, carry micro-batches to the next stage

repops/ holds the operators of the exact profile, with a map of its own.
"""
