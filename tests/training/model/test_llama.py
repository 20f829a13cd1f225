"""The layer list names and shapes its tensors like transformers' Llama, and attends only to the past."""

import pytest
import torch

from swarm.config.spec import ModelSpec
from swarm.errors import BadConfig
from swarm.primitives.codec import replace
from swarm.training.model.llama import embedding_blocks, head_blocks, head_width, layer_blocks
from swarm.training.model.profiles import NATIVE
from swarm.training.model.stages import Stage, init_flat, plan_stages
from tests.training.models import TINY

MODEL = replace(TINY, vocab_size=40)


@pytest.mark.rule("T6")
def test_tensors_have_the_names_and_shapes_of_llama() -> None:
    blocks = (*embedding_blocks(MODEL), *layer_blocks(MODEL, 1), *head_blocks(MODEL))
    found = {part.name: part.shape for block in blocks for part in block.parts}
    assert found == {
        "model.embed_tokens.weight": (40, 16),
        "model.layers.1.input_layernorm.weight": (16,),
        "model.layers.1.self_attn.q_proj.weight": (16, 16),
        "model.layers.1.self_attn.k_proj.weight": (8, 16),
        "model.layers.1.self_attn.v_proj.weight": (8, 16),
        "model.layers.1.self_attn.o_proj.weight": (16, 16),
        "model.layers.1.post_attention_layernorm.weight": (16,),
        "model.layers.1.mlp.gate_proj.weight": (24, 16),
        "model.layers.1.mlp.up_proj.weight": (24, 16),
        "model.layers.1.mlp.down_proj.weight": (16, 24),
        "model.norm.weight": (16,),
        "lm_head.weight": (40, 16),
    }


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 3), (16, 16)])
def test_heads_that_do_not_fit_are_refused(heads: int, kv_heads: int) -> None:
    with pytest.raises(BadConfig):
        head_width(
            ModelSpec(
                vocab_size=40,
                hidden_size=16,
                num_layers=3,
                num_heads=heads,
                num_kv_heads=kv_heads,
                intermediate_size=24,
                seq_len=12,
                rope_theta=10_000,
                norm_eps_nano=10_000,
            )
        )


def test_a_later_token_changes_no_earlier_logit() -> None:
    (plan,) = plan_stages(MODEL, 1)
    stage, flat = Stage(plan, NATIVE), init_flat(plan, 1)
    tokens = torch.arange(24).view(2, 12)
    changed = tokens.clone()
    changed[:, 7] = 39
    before, after = stage.forward(flat, tokens), stage.forward(flat, changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7], after[:, 7])
