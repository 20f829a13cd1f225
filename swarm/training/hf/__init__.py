"""Read and write folders in the layout of transformers' Llama.

Modules (C: pure, S: does I/O):

    config.py  C  ``config.json`` of transformers' Llama: written for an export, read with suspicion
                  for an import.
    export.py  C  The whole model in the layout of transformers' ``LlamaForCausalLM``.
    load.py    S  Read a folder in the form of transformers' Llama, in one file or many, into the
                  flat vector of a stage.
    weights.py C  What a safetensors file says it holds, believed only as far as its length allows,
                  and its numbers as float32.
"""
