"""`MulapProcessor`: captions and waveforms to a model's inputs, alone and together."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny import CAPTIONS, RATE, make_config, make_tokenizer, tone
from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer

from mulap.model.features import MulapFeatureExtractor
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor


@pytest.fixture(scope="module")
def processor() -> MulapProcessor:
    return MulapProcessor(MulapFeatureExtractor(), make_tokenizer())


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return [tone(0, 3.0), tone(1, 9.5)]


def test_both_together_are_what_each_is_alone(processor, clips):
    captions = list(CAPTIONS[:2])
    both = processor(text=captions, audio=clips, sampling_rate=RATE, return_tensors="pt")
    audio = processor(audio=clips, sampling_rate=RATE, return_tensors="pt")
    text = processor(text=captions, return_tensors="pt")
    assert set(audio) == {"input_features", "audio_attention_mask"}
    assert set(text) == {"input_ids", "attention_mask"}
    for name, value in {**audio, **text}.items():
        assert torch.equal(both[name], value), name
    assert both["audio_attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert both["input_features"].shape == (2, 3, 96, 188)


def test_its_output_is_what_the_model_wants(processor, clips):
    config = make_config(audio={"num_mel_bins": 96})
    model = MulapForPreTraining(config).eval()
    batch = processor(
        text=list(CAPTIONS[:3]),
        audio=clips,
        sampling_rate=RATE,
        max_segments=1,
        return_tensors="pt",
    )
    assert model.score_pairs(**batch).shape == (2, 3)


def test_one_caption_needs_no_list(processor):
    one = processor(text=CAPTIONS[0], return_tensors="pt")
    assert one["input_ids"].shape == (1, 6)
    assert processor(text=CAPTIONS[0])["input_ids"] == one["input_ids"].tolist()


def test_captions_are_padded_and_cut(processor):
    batch = processor(text=list(CAPTIONS[:2]), max_length=4, return_tensors="np")
    assert batch["input_ids"].shape == (2, 4)
    assert batch["input_ids"][:, -1].tolist() == [processor.tokenizer.sep_token_id] * 2


def test_nothing_to_process_is_one_clear_error(processor):
    with pytest.raises(ValueError, match="nothing to process: give text=, audio= or both"):
        processor()


def test_another_sampling_rate_is_one_clear_error(processor, clips):
    with pytest.raises(ValueError, match="the audio is at 44100 Hz, the model takes 16000 Hz"):
        processor(audio=clips, sampling_rate=44_100)


def test_a_processor_survives_saving_and_loading(processor, clips, tmp_path):
    processor.save_pretrained(tmp_path)
    make_config().save_pretrained(tmp_path)
    expected = processor(text=CAPTIONS[0], audio=clips, sampling_rate=RATE, return_tensors="pt")
    for kind in (MulapProcessor, AutoProcessor):
        loaded = kind.from_pretrained(tmp_path)
        assert type(loaded) is MulapProcessor
        batch = loaded(text=CAPTIONS[0], audio=clips, sampling_rate=RATE, return_tensors="pt")
        for name, value in expected.items():
            assert torch.equal(batch[name], value), name
    assert type(AutoFeatureExtractor.from_pretrained(tmp_path)) is MulapFeatureExtractor
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == processor.tokenizer.get_vocab()


def test_options_of_the_feature_extractor_survive_saving_and_loading(tmp_path):
    extractor = MulapFeatureExtractor(variant="original", segment_seconds=2.0)
    MulapProcessor(extractor, make_tokenizer()).save_pretrained(tmp_path)
    loaded = MulapProcessor.from_pretrained(tmp_path).feature_extractor
    assert (loaded.variant, loaded.segment_seconds) == ("original", 2.0)


REMOTE = """
import sys
sys.modules["mulap"] = None  # as where it is not installed
import numpy as np
from transformers import AutoProcessor
processor = AutoProcessor.from_pretrained(sys.argv[1], trust_remote_code=True)
batch = processor(text="a calm song", audio=np.ones(48_000, "f"), sampling_rate=16_000)
assert batch["input_features"].shape == (1, 1, 96, 188), batch
assert len(batch["input_ids"][0]) == 5, batch
assert type(processor).__module__.startswith("transformers_modules."), type(processor)
"""


@pytest.mark.slow
def test_a_saved_processor_carries_its_code_to_where_mulap_is_not_installed(processor, tmp_path):
    make_config().save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    subprocess.run([sys.executable, "-c", REMOTE, tmp_path / "model"], check=True, cwd=tmp_path)
