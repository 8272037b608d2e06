"""The co-attention alone: layout, masks, what each stream sees."""

import math

import pytest
import torch
from tiny import make_config
from torch import nn

from mulap.model.coattention import (
    Attention,
    CoAttentionBlock,
    CoAttentionStack,
    SelfAttentionBlock,
    TransformerLayer,
)

AUDIO_WIDTH, TEXT_WIDTH = 24, 32


def streams(seed: int = 0):
    torch.manual_seed(seed)
    audio, text = torch.randn(2, 4, AUDIO_WIDTH), torch.randn(2, 5, TEXT_WIDTH)
    return audio, text, torch.ones(2, 4), torch.ones(2, 5)


def make_stack(**changes) -> CoAttentionStack:
    torch.manual_seed(1)
    return CoAttentionStack(make_config(**changes)).eval()


def test_attention_equals_its_formula():
    torch.manual_seed(0)
    attention = Attention(8, 6, num_heads=2, dropout=0.5).eval()
    states, memory = torch.randn(1, 3, 8), torch.randn(1, 4, 6)
    mask = torch.tensor([[1, 1, 0, 1]])
    heads = []
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        query, key, value = (
            layer(x)[0, :, rows]
            for layer, x in (
                (attention.query, states),
                (attention.key, memory),
                (attention.value, memory),
            )
        )
        scores = query @ key.T / math.sqrt(4)
        scores[:, 2] = -math.inf
        heads.append(scores.softmax(-1) @ value)
    expected = attention.output(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(states, memory, mask)[0], expected)


def test_a_width_that_heads_cannot_share_is_one_clear_error():
    with pytest.raises(ValueError, match="width 10 cannot be shared by 4 attention heads: make"):
        Attention(10, 10, num_heads=4, dropout=0.0)


def test_the_paper_layout_is_co_attention_only_so_audio_has_no_self_attention_E11():
    stack = make_stack(num_coattention_layers=3)
    assert [type(block) for block in stack.blocks] == [CoAttentionBlock] * 3


def test_the_official_layout_has_self_attention_after_each_exchange_and_the_rest_audio_only_E11():
    stack = make_stack(layout="official", num_coattention_layers=2, num_audio_layers=6)
    expected = [CoAttentionBlock, SelfAttentionBlock] * 2 + [SelfAttentionBlock] * 4
    assert [type(block) for block in stack.blocks] == expected
    selves = [block for block in stack.blocks if isinstance(block, SelfAttentionBlock)]
    assert [block.text is not None for block in selves] == [True, True] + [False] * 4


def test_fewer_audio_layers_than_exchanges_is_one_clear_error():
    with pytest.raises(ValueError, match=r"num_audio_layers = 1 is below .* = 2: .*raise it"):
        make_stack(layout="official", num_coattention_layers=2, num_audio_layers=1)


def test_each_stream_reads_the_other_as_it_was_before_the_layer():
    audio, text, audio_mask, text_mask = streams()
    block = make_stack(num_coattention_layers=1).blocks[0]
    new_audio, new_text = block(audio, text, audio_mask, text_mask)
    torch.testing.assert_close(new_audio, block.audio(audio, text, text_mask))
    torch.testing.assert_close(new_text, block.text(text, audio, audio_mask))


@pytest.mark.parametrize("layout", ["paper", "official"])
def test_what_is_masked_in_either_stream_changes_nothing_elsewhere_E16(layout):
    audio, text, audio_mask, text_mask = streams()
    audio_mask[:, 3], text_mask[:, 4] = 0, 0
    stack = make_stack(layout=layout)
    before = stack(audio, text, audio_mask, text_mask)
    audio[:, 3], text[:, 4] = 100.0, -100.0
    after = stack(audio, text, audio_mask, text_mask)
    torch.testing.assert_close(before[0][:, :3], after[0][:, :3])
    torch.testing.assert_close(before[1][:, :4], after[1][:, :4])


@pytest.mark.parametrize("layout", ["paper", "official"])
def test_each_stream_hears_the_other(layout):
    audio, text, audio_mask, text_mask = streams()
    stack = make_stack(layout=layout, num_coattention_layers=1)
    before = stack(audio, text, audio_mask, text_mask)
    with_other_text = stack(audio, text.flip(0), audio_mask, text_mask)
    with_other_audio = stack(audio.flip(0), text, audio_mask, text_mask)
    assert (before[0] - with_other_text[0]).abs().max() > 1e-3
    assert (before[1] - with_other_audio[1]).abs().max() > 1e-3


def test_no_stream_attends_to_itself_in_a_co_attention_layer():
    # With itself as memory, the second position would move the first.
    audio, text, audio_mask, text_mask = streams()
    block = make_stack().blocks[0]
    before, _ = block(audio, text, audio_mask, text_mask)
    audio[:, 1] += 1.0
    after, _ = block(audio, text, audio_mask, text_mask)
    torch.testing.assert_close(before[:, 0], after[:, 0])


def test_a_layer_is_bert_s():
    from transformers.models.bert.modeling_bert import BertLayer

    config = make_config().text_config
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    bert = BertLayer(config).eval()
    layer = TransformerLayer(32, 32, 4, 48, make_config()).eval()
    pairs = {
        "attention.query": bert.attention.self.query,
        "attention.key": bert.attention.self.key,
        "attention.value": bert.attention.self.value,
        "attention.output": bert.attention.output.dense,
        "attention_norm": bert.attention.output.LayerNorm,
        "intermediate": bert.intermediate.dense,
        "output": bert.output.dense,
        "output_norm": bert.output.LayerNorm,
    }
    for name, module in pairs.items():
        layer.get_submodule(name).load_state_dict(module.state_dict())
    states = torch.randn(2, 5, 32)
    theirs = bert(states)
    theirs = theirs[0] if isinstance(theirs, tuple) else theirs
    torch.testing.assert_close(layer(states, states, torch.ones(2, 5)), theirs, atol=1e-5, rtol=0)


def test_a_layer_drops_out_in_training_only():
    audio, text, _, text_mask = streams()
    config = make_config(hidden_dropout_prob=0.5)
    layer = TransformerLayer(AUDIO_WIDTH, TEXT_WIDTH, 4, 40, config).train()
    first, second = (layer(audio, text, text_mask) for _ in range(2))
    assert not torch.equal(first, second)
    layer.eval()
    first, second = (layer(audio, text, text_mask) for _ in range(2))
    assert torch.equal(first, second)
    assert isinstance(layer.dropout, nn.Dropout)
