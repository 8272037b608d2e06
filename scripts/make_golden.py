"""Cut tests/golden/musicnn.npz from activations of the TensorFlow original.

    python scripts/make_golden.py FOLDER

FOLDER holds `MTT_musicnn.npz` and `MSD_musicnn.npz`: a 12-second waveform, the same at full level
(`loud_*`) and what musicnn 0.1.0 made of both. Tests need less, and a repository should be small:
the waveform once, the tags of all four segments, of the layers every 29th frame of the first two.

The layers `cnn1` to `cnn3` and `penultimate` are kept for segment 0 alone: musicnn 0.1.0's
extractor reads these from the first batch and appends the same values again for every later
segment, so the source holds nothing else. Their pools are right for all segments.
"""

import argparse
from pathlib import Path

import numpy as np

NUM_FRAMES = 187  # of a segment
NUM_SEGMENTS = 2
FRAME_STEP = 29  # prime to everything here, so that it meets all phases
FRAME_LAYERS = ("timbral", "temporal", "cnn1", "cnn2", "cnn3")
REPEATED_LAYERS = ("cnn1", "cnn2", "cnn3", "penultimate")
LEVELS = ("", "loud_")


def cut_shared(source: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Return the input: the waveform, the gain that makes it the loud one, and mels."""
    loudest = np.abs(source["waveform"]).argmax()
    arrays = {
        "waveform": source["waveform"],
        "loud_gain": np.float64(source["loud_waveform"][loudest]) / source["waveform"][loudest],
    }
    for level in LEVELS:
        mel_power = source[f"{level}mel_power_f32"][: NUM_SEGMENTS * NUM_FRAMES]
        # The original rounds to float16 before the logarithm: this is what its layers saw.
        arrays[f"{level}mel_power_float16"] = mel_power.astype(np.float16)
        arrays[f"{level}mel_power"] = mel_power[::FRAME_STEP]
        rounded = arrays[f"{level}mel_power_float16"].astype(np.float64)
        log_mel = source[f"{level}mel_full"][: NUM_SEGMENTS * NUM_FRAMES]
        assert np.abs(np.log10(10_000 * rounded + 1) - log_mel).max() < 1e-6
    return arrays


def cut_layers(source: np.lib.npyio.NpzFile) -> dict[str, np.ndarray]:
    """Return the layers of one model, fewer segments and frames of each."""
    arrays = {"labels": source["labels"]}
    names = (*FRAME_LAYERS, "max_pool", "mean_pool", "penultimate", "taggram")
    for name in (f"{level}{name}" for level in LEVELS for name in names):
        layer = source[name]
        plain = name.removeprefix("loud_")
        per_segment = layer.reshape(4, -1)
        assert (plain in REPEATED_LAYERS) == (per_segment == per_segment[0]).all()
        num_segments = 1 if plain in REPEATED_LAYERS else NUM_SEGMENTS
        if plain in FRAME_LAYERS:
            arrays[name] = layer[: num_segments * NUM_FRAMES : FRAME_STEP]
        else:
            arrays[name] = layer[: layer.shape[0] if plain == "taggram" else num_segments]
    return arrays


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Cut the golden activations for the tests.")
    parser.add_argument("source", type=Path, help="folder with {MTT,MSD}_musicnn.npz")
    parser.add_argument("--out", type=Path, default=Path("tests/golden/musicnn.npz"))
    arguments = parser.parse_args()
    arrays = {}
    for model in ("MTT", "MSD"):
        with np.load(arguments.source / f"{model}_musicnn.npz") as source:
            if not arrays:
                arrays = cut_shared(source)
            layers = cut_layers(source)
            arrays |= {f"{model.lower()}/{name}": array for name, array in layers.items()}
    np.savez_compressed(arguments.out, **arrays)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
