"""Sentences by mask-predict: lengths are kept, no token is special or there twice."""

import numpy as np
import pytest
import torch
from tiny import make_model, make_tokenizer, tone, write_joint_model

from mulap.encoders.engine import Vocabulary, load_engine
from mulap.model.features import MulapFeatureExtractor
from mulap.model.processor import MulapProcessor
from mulap.use.write import predict_tokens, write_candidates

TAUGHT = ("a calm piano song", "fast loud guitar rock")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return load_engine(write_joint_model(tmp_path_factory.mktemp("write")), "cpu")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_sentences_keep_their_lengths_and_hold_words_alone_each_once(engine, seed, iterations):
    features = engine.backbone.embed_waveform(tone(seed, 3.0 + 3 * seed))
    lengths = (1, 9, 4, 4)
    rows = predict_tokens(engine, features, lengths, iterations)
    assert [len(row) for row in rows] == list(lengths)
    vocabulary: Vocabulary = engine.vocabulary
    for row in rows:
        assert not {*row.tolist()} & {*vocabulary.never.tolist()}
        assert len({*row.tolist()}) == len(row)
    np.testing.assert_array_equal(rows[2], rows[3])
    assert {"[MASK]", "[UNK]", "[unused0]"} <= {
        vocabulary.words[index] for index in vocabulary.never
    }


def test_sentences_do_not_depend_on_those_beside_them(engine):
    features = engine.backbone.embed_waveform(tone(1, 9.0))
    together = write_candidates(engine, features, (6, 2, 9), 4)
    assert together == [write_candidates(engine, features, (n,), 4)[0] for n in (6, 2, 9)]


def teach(folder):
    """A model that has learnt one sentence per clip, from words that are all hidden or half."""
    model = make_model(has_contrastive_head=True, text_pooling="mean", feature_norm="none")
    tokenizer = make_tokenizer()
    whole = tokenizer(list(TAUGHT), return_tensors="pt", return_token_type_ids=False)
    generator = torch.Generator().manual_seed(0)
    extractor = MulapFeatureExtractor.from_config(model.config.audio_config)
    for parameter in model.mulap.audio_backbone.parameters():
        parameter.requires_grad_(False)
    clips = [extractor.log_mel(extractor.segment(tone(seed, 6.1))) for seed in (0, 1)]
    with torch.no_grad():
        features = torch.stack(
            [model.mulap.audio_backbone(torch.from_numpy(clip)) for clip in clips]
        )
    is_word = whole.attention_mask.bool() & (whole.input_ids > tokenizer.mask_token_id)
    learner = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(120):
        share = torch.rand((2, 1), generator=generator)
        is_hidden = is_word & (torch.rand(is_word.shape, generator=generator) < 0.4 + share)
        ids = whole.input_ids.masked_fill(is_hidden, tokenizer.mask_token_id)
        labels = whole.input_ids.masked_fill(~is_hidden, -100)
        outputs = model(ids, features, whole.attention_mask, mlm_labels=labels)
        loss = torch.nn.functional.cross_entropy(outputs.mlm_logits, outputs.mlm_targets)
        learner.zero_grad()
        loss.backward()
        learner.step()
    model.save_pretrained(folder)
    MulapProcessor(extractor, tokenizer).save_pretrained(folder)
    return features.numpy()


def test_a_model_that_knows_a_sentence_of_each_clip_writes_it(tmp_path):
    clips = teach(tmp_path)
    engine = load_engine(tmp_path, "cpu")
    assert [write_candidates(engine, clip, (4,), 3)[0] for clip in clips] == list(TAUGHT)
