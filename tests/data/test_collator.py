"""`PretrainCollator`: what an item becomes depends on its key and nothing else of the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CAPTIONS, make_collator, make_item, make_items, make_tokenizer

from mulap.data.captions import caption_key
from mulap.data.collator import ordinary_token_ids
from mulap.data.dataset import Item
from mulap.model.features import MulapFeatureExtractor

few = settings(max_examples=25, derandomize=True, deadline=None)


def test_a_batch_holds_what_model_and_losses_want():
    batch = make_collator()([make_item(0, CAPTIONS[0], 4), make_item(1, CAPTIONS[1], 2)])
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "input_features": (2, 4, 12, 20),
        "audio_attention_mask": (2, 4),
        "is_masked_segment": (2, 4),
        "input_ids": (2, 7),
        "attention_mask": (2, 7),
        "mlm_labels": (2, 7),
        "caption_index": (2,),
        "atm_labels": (2,),
        "caption_hash": (2,),
    }
    assert batch["audio_attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [6, 7]
    assert not batch["input_features"][1, 2:].any()
    assert not batch["is_masked_segment"][1, 2:].any()


@few
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True),
    st.integers(0, 5),
    st.integers(0, 3),
)
def test_masks_depend_on_seed_epoch_and_index_only_and_not_on_the_batch(indices, epoch, seed):
    collator = make_collator(seed=seed, mlm_probability=0.5, mam_probability=0.5)
    items = [make_item(index, CAPTIONS[index % 8], 1 + index % 5, epoch) for index in indices]
    together = collator(items)
    for row, item in enumerate(items):
        alone = collator([item])
        num_tokens, num_segments = alone["input_ids"].shape[1], len(item.input_features)
        for name in ("input_ids", "mlm_labels", "attention_mask"):
            assert torch.equal(together[name][row, :num_tokens], alone[name][0]), name
        for name in ("is_masked_segment", "input_features"):
            assert torch.equal(together[name][row, :num_segments], alone[name][0]), name
        assert (together["mlm_labels"][row, num_tokens:] == -100).all()
        assert (together["input_ids"][row, num_tokens:] == 0).all()


def test_masks_change_with_the_epoch_and_the_seed():
    def choices(epoch=0, seed=0):
        batch = make_collator(seed=seed)(make_items(epoch=epoch))
        return [
            batch[name].numpy().tobytes()
            for name in ("mlm_labels", "is_masked_segment", "caption_index")
        ]

    for first, second in zip(choices(), choices(epoch=1), strict=True):
        assert first != second
    for first, second in zip(choices(), choices(seed=1), strict=True):
        assert first != second
    assert choices() == choices()


def test_labels_are_the_true_words_where_words_are_hidden():
    tokenizer = make_tokenizer()
    items = make_items(64, epoch=1)
    batch = make_collator()(items)
    for row, item in enumerate(items):
        truth = torch.tensor(tokenizer(item.caption).input_ids)
        hidden, labels = (
            batch["input_ids"][row, : len(truth)],
            batch["mlm_labels"][row, : len(truth)],
        )
        is_labelled = labels != -100
        assert torch.equal(labels[is_labelled], truth[is_labelled])
        assert torch.equal(hidden[~is_labelled], truth[~is_labelled])
    assert (batch["mlm_labels"] != -100).any()


@pytest.mark.parametrize(
    "caption", ["a calm [SEP] song [MASK] [PAD]", "qqqq a song \U0001f3b5 zzz"]
)
def test_no_special_token_is_hidden_not_even_one_that_a_caption_spells_out_E8(caption):
    tokenizer = make_tokenizer()
    collator = make_collator(mlm_probability=1.0)
    truth = torch.tensor(tokenizer(caption).input_ids)
    is_special = torch.isin(truth, torch.tensor(tokenizer.all_special_ids))
    assert is_special.sum() > 3
    for index in range(20):
        batch = collator([make_item(index, caption)])
        assert torch.equal(batch["input_ids"][0][is_special], truth[is_special])
        assert (batch["mlm_labels"][0] != -100).equal(~is_special)


def test_a_replacement_is_an_ordinary_word_E8():
    tokenizer = make_tokenizer()
    ids = ordinary_token_ids(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert not {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"} & set(
        tokens
    )
    assert len(tokens) == len(tokenizer) - 7
    collator = make_collator(mlm_probability=1.0)
    seen = torch.cat(
        [collator([make_item(i, epoch=e)])["input_ids"][0] for i in range(50) for e in (0, 1)]
    )
    replaced = seen[(seen != tokenizer.mask_token_id) & (seen != 4) & (seen != 5)]
    assert set(replaced.tolist()) <= set(ids.tolist())
    assert len(set(replaced.tolist())) > 8


def test_captions_are_cut_to_the_limit():
    batch = make_collator(max_tokens=4)(make_items(4))
    assert batch["input_ids"].shape == (4, 4)


def test_a_swapped_caption_never_says_the_same_whatever_its_case_and_spaces_E4():
    variants = ["A calm piano song", "a CALM  piano song.", " a calm piano song", "loud drums"]
    items = [make_item(index, caption) for index, caption in enumerate(variants)]
    batch = make_collator(atm_probability=1.0)(items)
    assert batch["caption_index"][:3].tolist() == [3, 3, 3]
    assert batch["caption_index"][3] in (0, 1, 2)
    assert batch["atm_labels"].tolist() == [0.0] * 4
    first, second, third, other = batch["caption_hash"].tolist()
    assert first == second == third != other


@pytest.mark.parametrize("captions", [["one song"], ["a song", "A song", "a  song!"]])
@pytest.mark.parametrize("negatives", ["batch", "dataset"])
def test_with_no_other_caption_nothing_is_swapped_and_it_ends_E4(captions, negatives):
    items = [make_item(index, caption) for index, caption in enumerate(captions)]
    collator = make_collator(atm_probability=1.0, atm_negatives=negatives, caption_pool=captions)
    batch = collator(items)
    assert batch["atm_labels"].tolist() == [1.0] * len(items)
    assert batch["caption_index"].tolist() == list(range(len(items)))


def test_in_batch_negatives_are_the_default_and_reuse_the_batch_s_captions_E4():
    collator = make_collator()
    assert collator.atm_negatives == "batch"
    batch = collator(make_items(8))
    assert len(batch["input_ids"]) == 8
    is_own = batch["caption_index"] == torch.arange(8)
    assert torch.equal(batch["atm_labels"].bool(), is_own)
    assert 0 < is_own.sum() < 8


def test_the_authors_negatives_come_from_the_whole_data_set_as_an_option():
    pool = [*CAPTIONS, "quite another song with choir", "a dance in major"]
    collator = make_collator(atm_probability=1.0, atm_negatives="dataset", caption_pool=pool)
    items = make_items(4, epoch=2)
    batch = collator(items)
    is_swapped = ~batch["atm_labels"].bool()
    assert is_swapped.any()
    assert len(batch["input_ids"]) == 4 + is_swapped.sum()
    assert batch["caption_hash"].shape == (len(batch["input_ids"]),)
    assert batch["caption_index"][is_swapped].tolist() == list(range(4, len(batch["input_ids"])))
    for row in range(4):
        drawn = batch["caption_hash"][batch["caption_index"][row]]
        assert bool(drawn == batch["caption_hash"][row]) == bool(batch["atm_labels"][row])
    # A function of the item's key, like everything else.
    alone = [collator([item]) for item in items]
    assert [float(one["atm_labels"][0]) for one in alone] == batch["atm_labels"].tolist()
    tokenizer = make_tokenizer()
    known = {caption_key(caption) for caption in pool}
    plain = make_collator(
        atm_probability=1.0, atm_negatives="dataset", caption_pool=pool, mlm_probability=0.0
    )(items)
    for row in plain["input_ids"]:
        assert caption_key(tokenizer.decode(row, skip_special_tokens=True)) in known


def test_dataset_negatives_without_a_pool_are_one_clear_error():
    with pytest.raises(ValueError, match="needs a caption_pool"):
        make_collator(atm_negatives="dataset")


def test_half_of_the_captions_are_swapped():
    batch = make_collator()(make_items(1000, [f"song number {i}" for i in range(1000)]))
    assert 430 < batch["atm_labels"].sum() < 570


def test_no_probability_hides_and_swaps_nothing():
    batch = make_collator(mlm_probability=0.0, mam_probability=0.0, atm_probability=0.0)(
        make_items()
    )
    assert (batch["mlm_labels"] == -100).all()
    assert not batch["is_masked_segment"].any()
    assert batch["atm_labels"].all()
    assert batch["caption_index"].tolist() == list(range(8))


def test_the_features_are_the_items_own_and_not_blanked_by_masking_E1():
    items = make_items(4)
    before = [item.input_features.copy() for item in items]
    batch = make_collator(mam_probability=1.0)(items)
    assert batch["is_masked_segment"].any()
    for row, item in enumerate(items):
        assert np.array_equal(batch["input_features"][row].numpy(), before[row])
        assert np.array_equal(item.input_features, before[row])


@pytest.mark.parametrize("negatives", ["batch", "dataset"])
def test_more_pairs_are_drawn_for_each_clip_if_asked(negatives):
    pool = [*CAPTIONS, "quite another song"]
    options = {"atm_negatives": negatives, "caption_pool": pool}
    one = make_collator(**options)(make_items(6))
    batch = make_collator(atm_draws=3, **options)(make_items(6))
    assert len(batch["atm_labels"]) == len(batch["caption_index"]) == 18
    assert torch.equal(batch["atm_labels"][:6], one["atm_labels"])
    assert torch.equal(batch["caption_index"][:6], one["caption_index"])
    for pair, (caption, label) in enumerate(
        zip(batch["caption_index"], batch["atm_labels"], strict=True)
    ):
        hashes = batch["caption_hash"]
        assert bool(hashes[pair % 6] == hashes[caption]) == bool(label)
    assert 0 < batch["atm_labels"][6:].sum() < 12
    again = make_collator(atm_draws=3, **options)(make_items(6))
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_captions_are_also_given_as_written_where_a_loss_wants_them_so():
    options = {"mlm_probability": 0.5, "atm_negatives": "dataset", "caption_pool": CAPTIONS}
    batch = make_collator(keeps_captions=True, **options)(make_items(6))
    plain = make_collator(**options | {"mlm_probability": 0.0})(make_items(6))
    assert len(batch["input_ids"]) > 6  # captions of the pool too
    assert torch.equal(batch["whole_input_ids"], plain["input_ids"])
    assert not torch.equal(batch["whole_input_ids"], batch["input_ids"])
    assert "whole_input_ids" not in make_collator(**options)(make_items(6))


def test_one_floor_for_a_batch_is_what_the_extractor_gives_for_all_its_segments_at_once():
    extractor = MulapFeatureExtractor(db_reference="batch")
    noise = np.random.default_rng(0).standard_normal(9 * 16_000, np.float32)
    clips = [noise[: 6 * 16_000], 1e-5 * noise[: 3 * 16_000], 1e-3 * noise]
    expected = extractor(clips)["input_features"]
    items = [
        Item((0, index), extractor.log_mel(extractor.segment(clip)), CAPTIONS[index])
        for index, clip in enumerate(clips)
    ]
    batch = make_collator(is_floored_together=True)(items)
    np.testing.assert_allclose(batch["input_features"], expected, rtol=1e-5, atol=1e-4)
    own = make_collator()(items)["input_features"].numpy()
    assert np.abs(own - expected).max() > 10  # each clip under its own maximum
    assert not batch["input_features"][1, 1:].any()  # padding stays zero
