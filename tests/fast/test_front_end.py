"""A fused front end: the same model, which trains another way and is saved as it was."""

import pytest
import torch
from tiny import make_batch, make_model

from mulap.fast.front_end import FusedFrontEnd, fuse_front_end
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import FrontEnd, MusicnnBackbone
from mulap.model.pretraining import MulapForPreTraining


def test_parameters_and_their_names_are_kept_and_fusing_can_be_undone():
    model = make_model()
    front_end, before = model.mulap.audio_backbone.front_end, dict(model.named_parameters())
    for is_fused, kind in ((True, FusedFrontEnd), (True, FusedFrontEnd), (False, FrontEnd)):
        assert fuse_front_end(model, is_fused) is model
        assert type(front_end) is kind
        after = dict(model.named_parameters())
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)


@pytest.mark.parametrize("variant", ["port", "original"])
@pytest.mark.parametrize("is_training", [False, True])
def test_a_fused_front_end_gives_what_the_plain_one_gives(variant, is_training):
    if variant == "port" and is_training:
        pytest.importorskip("numba")
    torch.manual_seed(0)
    sizes = {"num_timbral_filters": 3, "num_temporal_filters": 2, "num_midend_filters": 3}
    config = MulapAudioConfig(variant=variant, num_mel_bins=12, **sizes)
    backbone = MusicnnBackbone(config).train(is_training)
    log_mels = torch.randn(4, 12, 20)
    expected = backbone(log_mels)
    running = backbone.front_end.spectrogram_bn.running_mean.clone()
    backbone.front_end.spectrogram_bn.reset_running_stats()  # as before the first pass
    torch.testing.assert_close(fuse_front_end(backbone)(log_mels), expected, rtol=1e-4, atol=1e-4)
    if is_training:
        torch.testing.assert_close(backbone.front_end.spectrogram_bn.running_mean, running)


def test_a_fused_model_is_saved_as_a_plain_one_without_what_trains_it(tmp_path):
    model = fuse_front_end(make_model())
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == {
        "audio_input.py", "bundled.py", "coattention.py", "config.py", "modeling.py", "musicnn.py",
        "pretraining.py",
    }  # fmt: skip
    loaded = MulapForPreTraining.from_pretrained(tmp_path)
    assert type(loaded.mulap.audio_backbone.front_end) is FrontEnd
    batch = make_batch()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).atm_logits, model(**batch).atm_logits)
