"""The tiny Llama that tests of the model, of inference and of transformers' folders compute with."""

from swarm.config.spec import ModelSpec

TINY = ModelSpec(
    vocab_size=256,
    hidden_size=16,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=24,
    seq_len=12,
    rope_theta=10_000,
    norm_eps_nano=10_000,
)
