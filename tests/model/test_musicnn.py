"""The backbone against TensorFlow musicnn's own activations, and against known bugs."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import assert_same_tensors

from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone, MusicnnForTagging, pool_time

GOLDEN = Path(__file__).parents[1] / "golden" / "musicnn.npz"
VARIANTS = ["port", "original"]
NUM_FRAMES, FRAME_STEP = 187, 29


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module", params=["mtt", "msd"])
def public(request):
    return request.param, MusicnnForTagging.from_pretrained(f"musicnn-{request.param}")


def small_config(variant, **changes):
    return MulapAudioConfig(
        variant=variant,
        num_timbral_filters=5,
        num_temporal_filters=3,
        num_midend_filters=4,
        tagging_hidden_size=6,
        **changes,
    )


def log_mel(num_segments, num_frames=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_segments, 96, num_frames, generator=generator) * 20 - 40


def relative_errors(ours, theirs):
    """Element by element; under a thousandth of the layer's maximum, relative to that."""
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape
    floor = 1e-3 * np.abs(theirs).max()
    return np.abs(ours - theirs) / np.maximum(np.abs(theirs), floor)


def run_layers(model, mel):
    """Return every layer the golden file has, in its layout, for a log-mel (M, F, N)."""
    seen, handles = {}, []

    def watch(name, module):
        handles.append(module.register_forward_hook(lambda *call: seen.update({name: call[2]})))

    front_end = model.backbone.front_end
    for index in range(2):
        watch(f"timbral{index}", front_end.timbral[index])
    for index in range(3):
        watch(f"temporal{index}", front_end.temporal[index])
        watch(f"cnn{index + 1}", model.backbone.mid_end.blocks[index])
    watch("pool", model.backbone)
    watch("penultimate", model.head.hidden_bn)
    with torch.no_grad():
        taggram = torch.sigmoid(model(mel))
    for handle in handles:
        handle.remove()

    def frames(*names):
        layer = torch.cat([seen[name] for name in names], dim=1)  # (M, C, N)
        return layer.transpose(1, 2).flatten(0, 1)[::FRAME_STEP]

    first = -(-NUM_FRAMES // FRAME_STEP)  # kept frames of segment 0
    return {
        "timbral": frames("timbral0", "timbral1"),
        "temporal": frames("temporal0", "temporal1", "temporal2"),
        **{name: frames(name)[:first] for name in ("cnn1", "cnn2", "cnn3")},
        "max_pool": seen["pool"][:, :753],
        "mean_pool": seen["pool"][:, 753:],
        "penultimate": seen["penultimate"][:1],
        "taggram": taggram,
    }


@pytest.mark.parametrize("level", ["", "loud_"])
def test_every_layer_equals_tensorflow_musicnns(golden, public, level):
    name, model = public
    rounded = golden[f"{level}mel_power_float16"].astype(np.float64)
    mel = torch.from_numpy(np.log10(10_000 * rounded + 1).astype(np.float32))
    layers = run_layers(model, mel.reshape(2, NUM_FRAMES, 96).transpose(1, 2))
    for layer, ours in layers.items():
        theirs = golden[f"{name}/{level}{layer}"][: len(ours)]
        errors = relative_errors(ours, theirs)
        assert errors.max() < 1e-3, layer
        assert (errors < 1e-5).mean() > 0.8, layer


@pytest.mark.parametrize("level", ["", "loud_"])
def test_the_waveform_gives_tensorflow_musicnns_tags(golden, public, level):
    name, model = public
    gain = golden["loud_gain"] if level else 1.0
    extractor = MulapFeatureExtractor.from_pretrained(f"musicnn-{name}")
    mel = extractor((golden["waveform"] * gain).astype(np.float32), return_tensors="pt")
    with torch.no_grad():
        taggram = torch.sigmoid(model(mel["input_features"][0]))
    # The original rounds its mel to float16, so this is as close as it gets.
    np.testing.assert_allclose(taggram, golden[f"{name}/{level}taggram"], atol=2e-4)
    assert list(model.config.id2label.values()) == list(golden[f"{name}/labels"])


@pytest.mark.parametrize("model_class", [MusicnnBackbone, MusicnnForTagging])
@pytest.mark.parametrize("name", ["musicnn-mtt", "musicnn-msd"])
def test_bundled_weights_load_completely_and_without_a_warning(model_class, name, caplog):
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        model, report = model_class.from_pretrained(name, output_loading_info=True)
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    assert not any(report.values()), report
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert not model.training


def test_the_msd_path_gives_features_of_the_size_it_promises():
    model = MusicnnBackbone.from_pretrained("musicnn-msd")
    with torch.no_grad():
        features = model(log_mel(2, 187))
    assert features.shape == (2, model.config.feature_size) == (2, 1506)


def test_an_unknown_name_is_left_to_hugging_face(monkeypatch, tmp_path):
    with pytest.raises(OSError, match="no-such-weights"):
        MusicnnBackbone.from_pretrained(tmp_path / "no-such-weights")


def test_pickled_weights_are_refused(tmp_path):
    model = MusicnnBackbone(small_config("port"))
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        MusicnnBackbone.from_pretrained(tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("model_class", [MusicnnBackbone, MusicnnForTagging])
def test_saving_and_loading_keeps_every_number(tmp_path, variant, model_class, move_tensors):
    model = model_class(small_config(variant, num_labels=7)).train()
    model(log_mel(3))  # moves the running statistics
    model.eval().save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(tmp_path)
    assert_same_tensors(model, loaded)
    torch.testing.assert_close(model(log_mel(2)), move_tensors(loaded)(log_mel(2)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clip_has_the_same_features_alone_and_beside_neighbours(variant):
    model = MusicnnBackbone(small_config(variant)).eval()
    mel = log_mel(4)
    torch.testing.assert_close(model(mel)[:1], model(mel[:1]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_segments_of_all_clips_pass_at_once_so_batch_norm_is_updated_once_a_step(variant):
    model = MusicnnBackbone(small_config(variant)).train()
    mel = log_mel(6)
    model(mel)
    bn = model.front_end.spectrogram_bn
    assert bn.num_batches_tracked == 1
    # One update towards the mean over all segments, whatever their position in the clip.
    torch.testing.assert_close(bn.running_mean, 0.1 * mel.mean()[None])


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_norm_of_the_log_mel_runs_in_float32_under_autocast(variant):
    model = MusicnnBackbone(small_config(variant)).train()
    seen = []
    bn = model.front_end.spectrogram_bn
    bn.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(log_mel(3))
    (under_autocast,) = seen
    assert under_autocast.dtype == torch.float32
    assert bn.running_mean.dtype == torch.float32
    bn.reset_running_stats()
    plain = model(log_mel(3))
    torch.testing.assert_close(under_autocast, seen[1])
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_model_loaded_in_half_precision_keeps_the_log_mels_batch_norm_in_float32(
    variant, tmp_path
):
    MusicnnBackbone(small_config(variant)).save_pretrained(tmp_path)
    model = MusicnnBackbone.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.front_end.spectrogram_bn.weight.dtype == torch.float32
    assert model.front_end.timbral[0].conv.weight.dtype == torch.bfloat16
    assert torch.isfinite(model(log_mel(2))).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_all_silent_batch_is_finite_forward_and_backward(variant):
    extractor = MulapFeatureExtractor(variant)
    mel = torch.from_numpy(extractor.log_mel(np.zeros((2, extractor.segment_samples))))
    model = MusicnnBackbone(small_config(variant)).train()
    features = model(mel)
    features.sum().backward()
    assert torch.isfinite(features).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_runs_on_the_device_of_its_input_not_on_a_hard_coded_cuda(variant):
    model = MusicnnForTagging(small_config(variant, num_labels=7)).eval()
    extractor, mel = MulapFeatureExtractor(variant), log_mel(2)
    segments = np.zeros((1, extractor.segment_samples))
    with torch.device("meta"):  # whatever is made on the default device would clash
        assert model(mel).device.type == "cpu"
        assert np.isfinite(extractor.log_mel(segments)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_gradient(variant):
    model = MusicnnForTagging(small_config(variant, num_labels=7)).train()
    weights = torch.linspace(-1, 1, 7 * 4).view(4, 7)
    (model(log_mel(4)) * weights).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


@pytest.mark.parametrize("num_frames", [1, 7])
def test_maximum_and_mean_over_time_have_torch_s_values_and_gradients(num_frames):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((3, 5, num_frames), generator=generator, dtype=torch.double)
    x[0, 0] = -1.0  # all frames tie at what the ReLU has cut off
    directions = torch.randn((2, 3, 5), generator=generator, dtype=torch.double)
    gradients = []
    for pool in (pool_time, lambda values: (values.amax(2), values.mean(2))):
        leaf = x.clone().requires_grad_()
        pooled = torch.stack(pool(leaf.relu()))
        torch.testing.assert_close(pooled, torch.stack([x.relu().amax(2), x.relu().mean(2)]))
        (pooled * directions).sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_initial_weights_depend_on_the_seed_alone():
    def weights(seed):
        torch.manual_seed(seed)
        return MusicnnForTagging(small_config("port", num_labels=7)).state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "backbone.front_end.timbral.0.conv.weight"
    assert not torch.equal(first[name], other[name])
    assert first[name].abs().max() <= 1 / np.sqrt(67 * 7)


def test_the_port_variant_has_the_authors_shapes():
    front_end = MusicnnBackbone(MulapAudioConfig()).front_end
    assert [tuple(block.conv.weight.shape) for block in front_end.timbral] == [
        (204, 1, 67, 7),
        (204, 1, 38, 7),
    ]
    assert [tuple(block.block.conv.weight.shape) for block in front_end.temporal] == [
        (51, 1, frames) for frames in (129, 65, 33)
    ]


def test_the_port_variant_takes_the_mean_of_bands_first_and_relu_after_batch_norm():
    model = MusicnnBackbone(small_config("port")).eval()
    front_end = model.front_end
    for bn in (front_end.timbral[0].bn, front_end.temporal[0].block.bn):
        torch.nn.init.uniform_(bn.weight, -1, 1)
        torch.nn.init.uniform_(bn.running_mean, -1, 1)
    mel = log_mel(2)
    block, normalised = front_end.timbral[0], front_end.spectrogram_bn(mel[:, None])
    by_hand = torch.relu(block.bn(block.conv(normalised))).amax(2)
    torch.testing.assert_close(block(normalised[:, 0]), by_hand)
    temporal = front_end.temporal[0]
    mean = normalised[:, 0].mean(1, keepdim=True)
    convolved = torch.nn.functional.conv1d(
        mean, temporal.block.conv.weight, temporal.block.conv.bias, padding=64
    )
    by_hand = torch.relu(temporal.block.bn(convolved))
    torch.testing.assert_close(temporal(normalised[:, 0]), by_hand)
