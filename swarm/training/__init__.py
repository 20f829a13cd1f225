"""Train: turn data into weights.

  ops.py           C  the one table of operators of model and optimizer
  model.py         C  a Llama-style decoder as a list of layers
  stages.py        C  cut it into pipeline stages; shard <-> flat vector; forward and backward
  data.py          C  text to tokens, sample ids to windows
  data_files.py    S  find and read the files a corpus is made of
  routing.py       C  a micro-batch's path through random replicas
  inner.py         C  exact gradient sums, clip, AdamW
  outer.py         C  the outer step: NoLoCo, gossip, alone
  checkpoint.py    C  a shard's state as canonical bytes, and back
  export.py        C  the whole model in the layout of transformers' Llama, and back
  evaluate.py      C  held-out loss in nats per token
  generate.py      C  sampling with keys and values remembered
"""
