"""Read and write folders in the layout of transformers' Llama.

Modules (C: pure, S: does I/O):

    adapter.py S  Write and read an adapter in the layout of PEFT; a folder that is read is
                  untrusted.
    config.py  C  Write and read ``config.json`` of transformers' Llama; a file that is read is
                  untrusted.
    export.py  C  The whole model in the layout of transformers' ``LlamaForCausalLM``.
    load.py    S  Read a folder of transformers' Llama, in one file or many, into the flat vector of
                  a stage.
    weights.py C  Parse the header of an untrusted safetensors file, and convert its numbers to
                  float32.
"""
