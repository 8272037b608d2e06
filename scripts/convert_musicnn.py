"""Make mulap/weights/{musicnn-mtt,musicnn-msd} from the weights that Pons & Serra published.

    pip download musicnn==0.1.0 --no-deps --no-binary :all:
    python scripts/convert_musicnn.py musicnn-0.1.0.tar.gz

The source is the PyPI package itself, whose TensorFlow checkpoints are read here without
TensorFlow (a checkpoint is a LevelDB table of names and offsets beside a file of raw numbers), or
a folder with `MTT_musicnn_weights.npz` (tensors by their TensorFlow names), `MTT_musicnn.npz` (for
`labels`) and the same for MSD. Both give equal files.

Only layouts change; no number does. TensorFlow keeps kernels as (time, frequency, in, out), and
flattens the pooled features channel by channel (maximum, mean, maximum, mean, ...), where ours are
all maxima, then all means: the head is reordered here, once.
"""

import argparse
import ast
import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from mulap.files import sha256_of
from mulap.graphs.write import write_graphs
from mulap.model.bundled import write_sums
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnForTagging

MODELS = {"MTT": "MagnaTagATune", "MSD": "the Million Song Dataset (Last.fm tags)"}
BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
README = """\
# {name}

musicnn (Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", 2019), trained on {dataset}: 50 tags for every 3 seconds of music.

- Source: `{model}_musicnn` of musicnn 0.1.0 on PyPI, ISC licence (see `LICENSE`).
- Made by `scripts/convert_musicnn.py`: layouts were changed, numbers were not.
- Checked against activations of the TensorFlow original: `tests/model/test_musicnn.py`.
- sha256 of `model.safetensors`: `{sha256}`

```python
import mulap

mulap.load("{name}").tag("song.mp3").top(10)
```
"""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the variable-length integer at `at`, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def _table_entries(table: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of one LevelDB block; `handle` is its offset and size."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if table[offset + size] != 0:
        raise ValueError("the checkpoint's index is compressed (musicnn 0.1.0's is not)")
    block = table[offset : offset + size]
    (num_restarts,) = struct.unpack("<I", block[-4:])
    at, key = 0, b""
    while at < size - 4 - 4 * num_restarts:
        num_shared, at = _varint(block, at)
        num_new, at = _varint(block, at)
        num_value, at = _varint(block, at)
        key = key[:num_shared] + block[at : at + num_new]
        yield key, block[at + num_new : at + num_new + num_value]
        at += num_new + num_value


def _message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field numbers and values of a protocol-buffers message."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
        else:
            num_bytes, at = (4, at) if tag & 7 == 5 else _varint(data, at)
            value, at = data[at : at + num_bytes], at + num_bytes
        yield tag >> 3, value


def read_checkpoint(index: bytes, data: bytes) -> dict[str, np.ndarray]:
    """Return the float32 tensors of a TensorFlow checkpoint by name.

    Args:
        index: the bytes of its `.index` file.
        data: the bytes of its `.data-00000-of-00001` file.

    Returns:
        Every float32 tensor, in TensorFlow's layout.
    """
    footer, at = index[-48:], 0
    for _ in range(2):  # the first handle is of a block of no use here
        _, at = _varint(footer, at)
    tensors = {}
    for _, handle in _table_entries(index, footer[at:]):
        for name, value in _table_entries(index, handle):
            entry = dict(_message(value))
            if name and entry[1] == 1:  # field 1 is the type, 1 is float32
                dims = [dict(_message(dim)).get(1, 0) for _, dim in _message(entry[2])]
                array = np.frombuffer(data, "<f4", entry[5] // 4, entry.get(4, 0))
                tensors[name.decode()] = array.reshape(dims)
    return tensors


def read_source(source: Path, model: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the tensors and tag names of `MTT` or `MSD` from the PyPI archive or an npz folder."""
    if source.is_dir():
        with np.load(source / f"{model}_musicnn_weights.npz") as weights:
            tensors = dict(weights)
        with np.load(source / f"{model}_musicnn.npz") as activations:
            return tensors, [str(label) for label in activations["labels"]]
    files = {}
    with tarfile.open(source) as archive:
        for member in archive:
            file = archive.extractfile(member)
            folder, _, name = member.name.partition("/")[2].removeprefix("musicnn/").rpartition("/")
            if file and (folder == f"{model}_musicnn" or name == "configuration.py"):
                files[name] = file.read()
    settings = {
        node.targets[0].id: node.value
        for node in ast.parse(files["configuration.py"]).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    tensors = read_checkpoint(files[".index"], files[".data-00000-of-00001"])
    return tensors, ast.literal_eval(settings[f"{model}_LABELS"])


def convert(tensors: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return the state of `MusicnnForTagging` for TensorFlow's tensors."""
    state: dict[str, np.ndarray] = {}
    size = len(tensors["batch_normalization_9/gamma"])
    order = np.r_[0:size:2, 1:size:2]  # all maxima, then all means

    def numbered(layer: str, index: int) -> str:
        return f"{layer}_{index}" if index else layer

    def take_bn(ours: str, index: int, order: slice | np.ndarray = slice(None)) -> None:
        layer = numbered("batch_normalization", index)
        for name, theirs in BATCH_NORM.items():
            state[f"{ours}.{name}"] = tensors[f"{layer}/{theirs}"][order]
        state[f"{ours}.num_batches_tracked"] = np.array(0)

    def take_conv(ours: str, index: int) -> None:
        kernel = tensors[numbered("conv2d", index) + "/kernel"]  # (time, frequency, in, out)
        state[f"{ours}.bias"] = tensors[numbered("conv2d", index) + "/bias"]
        kernel = kernel.transpose(3, 2, 1, 0)  # (out, in, frequency, time)
        if index in (2, 3, 4):  # one band at a time
            kernel = kernel[:, :, 0]
        elif index > 4:  # the channels lie where the bands were
            kernel = kernel[:, 0]
        state[f"{ours}.weight"] = kernel

    take_bn("backbone.front_end.spectrogram_bn", 0)
    blocks = [f"front_end.timbral.{index}" for index in range(2)]
    blocks += [f"front_end.temporal.{index}.block" for index in range(3)]
    blocks += [f"mid_end.blocks.{index}" for index in range(3)]
    for index, block in enumerate(blocks):
        take_conv(f"backbone.{block}.conv", index)
        take_bn(f"backbone.{block}.bn", index + 1)
    take_bn("head.feature_bn", 9, order)
    take_bn("head.hidden_bn", 10)
    state["head.hidden.weight"] = tensors["dense/kernel"].T[:, order]
    state["head.hidden.bias"] = tensors["dense/bias"]
    state["head.output.weight"] = tensors["dense_1/kernel"].T
    state["head.output.bias"] = tensors["dense_1/bias"]
    return {name: torch.from_numpy(np.array(value, order="C")) for name, value in state.items()}


def main() -> None:
    """Write both folders; their LICENSE files are kept."""
    parser = argparse.ArgumentParser(description="Convert musicnn's public weights.")
    parser.add_argument("source", type=Path, help="musicnn-0.1.0.tar.gz, or a folder of npz files")
    parser.add_argument("--out", type=Path, default=Path("mulap/weights"), help="where to write")
    arguments = parser.parse_args()
    for model, dataset in MODELS.items():
        tensors, labels = read_source(arguments.source, model)
        folder = arguments.out / f"musicnn-{model.lower()}"
        config = MulapAudioConfig(variant="original", id2label=dict(enumerate(labels)))
        tagger = MusicnnForTagging(config)
        tagger.load_state_dict(convert(tensors))
        tagger.save_pretrained(folder)
        MulapFeatureExtractor(variant="original").save_pretrained(folder)
        sha256 = sha256_of(folder / "model.safetensors")
        text = README.format(name=folder.name, model=model, dataset=dataset, sha256=sha256)
        (folder / "README.md").write_text(text, encoding="utf-8")
        write_graphs(folder)
        write_sums(folder)
        print(json.dumps({"folder": str(folder), "sha256": sha256, "tags": len(labels)}))


if __name__ == "__main__":
    main()
