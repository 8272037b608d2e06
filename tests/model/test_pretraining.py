"""`MulapForPreTraining`: its heads, scores of pairs, folders that carry their own code."""

import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny import assert_same_tensors, make_batch, make_config, make_model
from transformers import AutoModel, AutoModelForPreTraining

from mulap.model.modeling import MulapModel
from mulap.model.pretraining import AtmHead, MulapForPreTraining


def test_words_are_scored_where_labels_are_and_say_which_clip_they_belong_to():
    model = make_model()
    batch = make_batch((2, 2, 2), (5, 5, 5))
    labels = torch.full((3, 5), -100)
    labels[0, 2], labels[2, 1], labels[2, 3] = 11, 12, 13
    caption_index = torch.tensor([2, 1, 0])
    with torch.no_grad():
        everywhere = model(**batch, caption_index=caption_index)
        some = model(**batch, caption_index=caption_index, mlm_labels=labels)
    assert some.mlm_targets.tolist() == [12, 13, 11]
    assert some.mlm_clip_index.tolist() == [0, 0, 2]
    scores = everywhere.mlm_logits.unflatten(0, (3, 5))
    torch.testing.assert_close(some.mlm_logits, scores[[0, 0, 2], [1, 3, 2]])
    assert everywhere.mlm_targets is None


def test_a_batch_without_labels_in_it_scores_no_word():
    model = make_model()
    out = model(**make_batch(), mlm_labels=torch.full((2, 6), -100))
    assert out.mlm_logits.shape == (0, model.config.text_config.vocab_size)


def test_masked_audio_is_predicted_for_each_segment_and_not_for_the_global_token():
    model = make_model()
    out = model(**make_batch((3, 2)))
    assert out.mam_predictions.shape == out.audio_features.shape
    torch.testing.assert_close(out.mam_predictions, model.mam_head(out.audio_hidden_states[:, 1:]))


@pytest.mark.parametrize("audio_width", [32, 24])
def test_the_match_is_scored_on_the_product_of_both_first_outputs(audio_width):
    torch.manual_seed(0)
    head = AtmHead(make_config(audio_hidden_size=audio_width))
    audio, text = torch.randn(3, audio_width), torch.randn(3, 32)
    projected = audio if audio_width == 32 else head.audio(audio)
    expected = (projected * text) @ head.score.weight[0] + head.score.bias
    torch.testing.assert_close(head(audio, text), expected)
    # The paper's head has nothing but the score where the widths are equal.
    assert len(list(head.parameters())) == (2 if audio_width == 32 else 4)


def test_the_authors_matching_head_is_an_option():
    head = AtmHead(make_config(atm_head="pooler")).eval()
    audio, text = torch.randn(3, 24), torch.randn(3, 32)
    product = torch.tanh(head.audio[0](audio)) * torch.tanh(head.text[0](text))
    torch.testing.assert_close(head(audio, text), head.score(product)[:, 0])
    head.train()
    assert not torch.equal(head(audio, text), head(audio, text))


def test_no_gradient_is_added_up_in_an_order_that_threads_choose():
    """On a CPU indexing's backward pass does, and two runs of one seed then differ."""
    model = make_model().train()
    labels = torch.full((2, 6), 7)
    out = model(**make_batch(), mlm_labels=labels, caption_index=torch.tensor([0, 0, 1, 0]))
    results = [value for value in out.values() if value.requires_grad]
    steps, seen = [value.grad_fn for value in results], set()
    while steps:
        step = steps.pop()
        if step is not None and step not in seen:
            seen.add(step)
            steps.extend(following for following, _ in step.next_functions)
    names = {step.name() for step in seen}
    assert "IndexSelectBackward0" in names
    assert not {"IndexBackward0", "GatherBackward0", "IndexPutBackward0"} & names


@pytest.mark.parametrize("is_scored", [True, False])
def test_the_shared_words_get_the_gradient_of_both_their_uses(monkeypatch, is_scored):
    """Looked up apart or together, with words that come twice and with padding."""
    gradients = []
    for is_together in (True, False):
        model = make_model().double().train()
        if not is_together:
            monkeypatch.setattr(MulapForPreTraining, "_look_up", lambda *_: (None, None))
        batch = make_batch((2, 3), (4, 6))
        batch["input_features"] = batch["input_features"].double()
        batch["input_ids"][:, 2] = batch["input_ids"][0, 1]
        batch["input_ids"][0, 4:] = 0
        torch.manual_seed(0)  # of the dropout
        out = model(**batch, caption_index=torch.tensor([1, 0]))
        loss = out.atm_logits.sum() + out.mam_predictions.square().sum()
        (loss + out.mlm_logits.square().sum() if is_scored else loss).backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})
    together, apart = gradients
    words = "mulap.text_encoder.embeddings.word_embeddings.weight"
    assert (together[words][0] == 0).all() == (not is_scored)  # [PAD] is scored, never looked up
    assert together.keys() == apart.keys()
    for name, gradient in apart.items():
        if gradient is None:  # the head, where nothing is scored
            assert together[name] is None
        else:
            torch.testing.assert_close(together[name], gradient, rtol=1e-10, atol=1e-12, msg=name)


@pytest.mark.parametrize("layout", ["paper", "official"])
@pytest.mark.parametrize("at_once", [1, 4, 512])
def test_scores_of_pairs_are_those_that_the_heads_give_in_a_forward_pass(layout, at_once):
    model = make_model(layout=layout, has_contrastive_head=True)
    batch = make_batch((1, 3, 2), (4, 7, 5))
    with torch.no_grad():
        out = model(**batch)
        crossed = model(**batch, caption_index=torch.tensor([2, 0, 1])).atm_logits
    clips = [batch["input_features"][row, :length] for row, length in enumerate((1, 3, 2))]
    texts = batch["input_ids"], batch["attention_mask"]
    scores = model.pairs(clips, *texts, captions_at_once=at_once, pairs_at_once=at_once)
    torch.testing.assert_close(scores["atm"].diagonal(), out.atm_logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(scores["atm"][[0, 1, 2], [2, 0, 1]], crossed, atol=1e-5, rtol=0)
    scaled = scores["contrastive"] * model.mulap.logit_scale.detach().exp()
    torch.testing.assert_close(scaled, out.logits_per_audio, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.score_pairs(**batch), scores["atm"].sigmoid())


def test_any_number_of_captions_can_be_scored_against_any_number_of_clips():
    model = make_model()
    clips, captions = make_batch((2, 3)), make_batch((1,), (4, 5, 6, 3))
    scores = model.score_pairs(
        clips["input_features"],
        clips["audio_attention_mask"],
        captions["input_ids"],
        captions["attention_mask"],
    )
    assert scores.shape == (2, 4)


def test_the_word_head_shares_the_word_embeddings(tmp_path):
    model = make_model()
    embeddings = model.mulap.text_encoder.embeddings.word_embeddings.weight
    assert model.mlm_head.decoder.weight is embeddings
    model.save_pretrained(tmp_path)
    loaded = MulapForPreTraining.from_pretrained(tmp_path)
    shared = loaded.mulap.text_encoder.embeddings.word_embeddings.weight
    assert loaded.mlm_head.decoder.weight is shared
    assert torch.equal(shared, embeddings)


@pytest.mark.parametrize("layout", ["paper", "official"])
def test_a_model_survives_saving_and_loading_whole_or_without_heads(tmp_path, layout, move_tensors):
    model = make_model(layout=layout, has_contrastive_head=True)
    model.save_pretrained(tmp_path)
    batch = make_batch((2, 3), (4, 6))
    for kind in (MulapForPreTraining, AutoModelForPreTraining):
        loaded = kind.from_pretrained(tmp_path)
        assert type(loaded) is MulapForPreTraining
        assert_same_tensors(model, loaded)
        torch.testing.assert_close(model(**batch), move_tensors(loaded)(**batch))
    for kind in (MulapModel, AutoModel):
        loaded = kind.from_pretrained(tmp_path)
        assert type(loaded) is MulapModel
        assert_same_tensors(model.mulap, loaded)
        torch.testing.assert_close(model.mulap(**batch), move_tensors(loaded)(**batch))


@pytest.mark.parametrize("kind", [MulapForPreTraining, MulapModel, AutoModelForPreTraining])
def test_a_folder_with_a_pickle_only_is_refused(tmp_path, kind):
    model = make_model()
    model.save_pretrained(tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match="safetensors"):
        kind.from_pretrained(tmp_path)


REMOTE = """
import sys
sys.modules["mulap"] = None  # as where it is not installed
import torch
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining
folder, batch = sys.argv[1], torch.load(sys.argv[2], weights_only=True)
expected = batch.pop("expected")
base = AutoModel.from_pretrained(folder, trust_remote_code=True)  # first: nothing is registered yet
model = AutoModelForPreTraining.from_pretrained(folder, trust_remote_code=True)
with torch.no_grad():
    out = model(**batch)
    torch.testing.assert_close(out.atm_logits, expected)
    torch.testing.assert_close(base(**batch).audio_hidden_states, out.audio_hidden_states)
assert AutoConfig.from_pretrained(folder, trust_remote_code=True).layout == "paper"
assert type(model).__module__.startswith("transformers_modules."), type(model)
"""


@pytest.mark.slow
def test_a_saved_folder_carries_its_code_to_where_mulap_is_not_installed(tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    batch = make_batch((2, 3), (4, 6))
    with torch.no_grad():
        torch.save(batch | {"expected": model(**batch).atm_logits}, tmp_path / "batch.pt")
    subprocess.run(
        [sys.executable, "-c", REMOTE, tmp_path / "model", tmp_path / "batch.pt"],
        check=True,
        cwd=tmp_path,
    )


def test_with_more_pairs_words_and_segments_are_the_first_pairs_and_all_pairs_are_matched():
    model = make_model()
    batch = make_batch((2, 2), (5, 5))
    labels = torch.full((2, 5), -100)
    labels[:, 2] = torch.tensor([11, 12])
    first, second = torch.tensor([1, 1]), torch.tensor([0, 1])
    with torch.no_grad():
        pairs = model(**batch, mlm_labels=labels, caption_index=torch.cat([first, second]))
        alone = [model(**batch, mlm_labels=labels, caption_index=draw) for draw in (first, second)]
    for name in ("mlm_logits", "mlm_targets", "mlm_clip_index", "mam_predictions"):
        torch.testing.assert_close(pairs[name], alone[0][name])
    expected = torch.cat([out.atm_logits for out in alone])
    torch.testing.assert_close(pairs.atm_logits, expected)
