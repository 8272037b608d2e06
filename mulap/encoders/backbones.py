"""A name or a folder -> the musicnn backbone in it, and nothing else of it.

An embedding needs the audio backbone alone, so the text branch of a MuLaP checkpoint is never
built: the tensors of the backbone are picked out of the safetensors by name. No pickle is loaded.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig

from mulap.encoders.load import RANDOM
from mulap.encoders.weights import hash_arrays
from mulap.model.bundled import bundled_names, locate_weights
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone, MusicnnForTagging, TaggingHead
from mulap.terminal import without_transformers_bars

Module = TypeVar("Module", bound=torch.nn.Module)

# Where the backbone hangs in: pre-training, `MulapModel`, the tagger, the backbone itself.
_PREFIXES = ("mulap.audio_backbone.", "audio_backbone.", "backbone.", "")

# What reading a model's config or weights raises where they are not whole.
_UNLOADABLE = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError, RecursionError),
    *(OverflowError, ZeroDivisionError, SafetensorError, StrictDataclassError),
)
_MAX_REASON = 300  # characters; some quote the whole file
# What towers of one backbone have in common.
_SIZES = tuple(name for name in MulapAudioConfig.__annotations__ if name != "num_towers")
# Far beyond what anybody trains; what is beyond these would take all memory before it failed.
_LIMITS = {
    "sampling_rate": (1_000, 1_000_000),
    "n_fft": (16, 2**16),
    "hop_length": (1, 2**16),
    "num_mel_bins": (8, 2**12),
    "segment_seconds": (0.1, 600.0),
    "num_timbral_filters": (1, 2**14),
    "num_temporal_filters": (1, 2**14),
    "num_midend_filters": (1, 2**14),
    "tagging_hidden_size": (0, 2**14),
    "num_towers": (1, 64),
}


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Turn what reading a model, or a part of it, raises where it is damaged into one line.

    transformers shows no bar meanwhile.

    Args:
        what: how the line begins: which one, and what is wrong with it in general.

    Raises:
        ValueError: `what`, the reason, and a remedy.
    """
    try:
        with without_transformers_bars():
            yield
    except Exception as error:  # noqa: BLE001 (of a wrong tokenizer.json `tokenizers` raises just this)
        if not (type(error) is Exception or isinstance(error, _UNLOADABLE)):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{what}: {reason[:_MAX_REASON]}. Copy it again.") from error


def random_backbone(config: MulapAudioConfig | None = None, seed: int = 0) -> MusicnnBackbone:
    """Build an untrained backbone, the baseline that a trained one has to beat.

    Args:
        config: the paper's backbone where it is not given.
        seed: of the weights. The global random state is left as it was.

    Returns:
        The backbone, in evaluation mode.
    """
    return _build(MusicnnBackbone, config or MulapAudioConfig(), seed)


def load_backbone(name_or_path: str | os.PathLike[str], seed: int = 0) -> MusicnnBackbone:
    """Load the audio backbone out of whatever holds one.

    Args:
        name_or_path: a bundled name (`musicnn-mtt`, `musicnn-msd`), a folder that holds a MuLaP
            model, a tagger or a backbone, or `random` for untrained weights.
        seed: of `random`.

    Returns:
        The backbone, in evaluation mode, float32.

    Raises:
        ValueError: there is no such name or folder, or no whole backbone in it.
    """
    if os.fspath(name_or_path) == RANDOM:
        return random_backbone(seed=seed)
    folder = Path(locate_weights(name_or_path))
    config = read_config(folder)
    weights = read_weights(folder, _PREFIXES, ("front_end.", "mid_end.", "more."))
    if not weights:
        raise ValueError(
            f"{folder}: there is no audio backbone in its weights. Give a MuLaP model."
        )
    return load_part(MusicnnBackbone, config, weights, folder)


def join_backbones(names: Sequence[str | os.PathLike[str]]) -> MusicnnBackbone:
    """Load several backbones and put them side by side, as the towers of one.

    Args:
        names: as `load_backbone` takes them, at least one.

    Returns:
        The backbone; its config says nothing of taggers' heads.

    Raises:
        ValueError: as `load_backbone`, or they do not hear the same log-mel or differ in size.
    """
    backbones = [load_backbone(name) for name in names]
    towers = [tower for backbone in backbones for tower in backbone.towers]
    own, *others = ({n: getattr(b.config, n) for n in _SIZES} for b in backbones)
    for name, sizes in zip(names[1:], others, strict=True):
        if unlike := [each for each in _SIZES if sizes[each] != own[each]]:
            raise ValueError(
                f"{name}: its {unlike[0]} is {sizes[unlike[0]]}, and that of {names[0]} "
                f"{own[unlike[0]]}. Give backbones of one kind."
            )
    joined = random_backbone(MulapAudioConfig(**own, num_towers=len(towers)))
    for tower, source in zip(joined.towers, towers, strict=True):
        tower.front_end.load_state_dict(source.front_end.state_dict())
        tower.mid_end.load_state_dict(source.mid_end.state_dict())
    return joined


def load_tagging_head(
    name_or_path: str | os.PathLike[str], backbone: MusicnnBackbone
) -> TaggingHead | None:
    """Load the head that belongs to a backbone, if the folder holds a tagger.

    Args:
        name_or_path: where the backbone came from.
        backbone: from `load_backbone`; its config names the tags.

    Returns:
        The head, in evaluation mode, float32; None where the folder holds another model.

    Raises:
        ValueError: the head is not whole.
    """
    config: Any = backbone.config
    if MusicnnForTagging.__name__ not in (config.architectures or ()):
        return None
    folder = Path(locate_weights(name_or_path))
    weights = read_weights(folder, ("head.",), ("",))
    return load_part(TaggingHead, config, weights, folder)


def _build(kind: Callable[[Any], Module], config: PreTrainedConfig, seed: int) -> Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return kind(config).eval()


def load_part(
    kind: Callable[[Any], Module],
    config: PreTrainedConfig,
    weights: dict[str, torch.Tensor],
    folder: Path,
) -> Module:
    """Build a part of a model and fill it with its weights, as float32.

    Args:
        kind: of the part; it takes the config.
        config: of the model.
        weights: from `read_weights`.
        folder: where they came from, for messages.

    Raises:
        ValueError: some are missing, or of other shapes.
    """
    with torch.device("meta"):  # without memory, of which a damaged config may ask for anything
        expected = kind(config).state_dict()
    missing = [name for name in expected if name not in weights]
    wrong = [
        name for name in weights if name in expected and weights[name].shape != expected[name].shape
    ]
    if missing or wrong:
        what = f"lacks {missing[0]}" if missing else f"has another shape of {wrong[0]}"
        raise ValueError(f"{folder}: {what} than config.json asks for. Copy the folder again.")
    network = _build(kind, config, seed=0)
    network.load_state_dict({name: weights[name] for name in expected})
    return network


def read_audio_config(values: dict[str, Any], where: Path) -> MulapAudioConfig:
    """Check what a config.json says of a backbone.

    Args:
        values: name -> value.
        where: the file, for messages.

    Raises:
        ValueError: a value is of the wrong type, or absurd.
    """
    with loading(f"{where}: cannot be used"):
        config = MulapAudioConfig.from_dict(values)
    for name, (low, high) in _LIMITS.items():
        if not low <= getattr(config, name) <= high:
            raise ValueError(
                f"{where}: {name} is {getattr(config, name)}, not within {low} and {high}. Copy the"
                " folder again."
            )
    return config


def load_whole(kind: Any, name_or_path: str | os.PathLike[str]) -> Any:
    """Load a model by its class, and refuse one that is not all there.

    Hugging Face's loading fills what is missing with random numbers, and has errors of many kinds.

    Args:
        kind: a class of ours with `from_pretrained`.
        name_or_path: a folder, or a name on the hub.

    Raises:
        ValueError: its config cannot be used, or weights are damaged, missing or of other shapes.
    """
    with loading(f"{name_or_path}: cannot be loaded"):
        model, info = kind.from_pretrained(name_or_path, output_loading_info=True)
    odd = sorted([*info["missing_keys"], *info["unexpected_keys"]])
    if odd:
        raise ValueError(
            f"{name_or_path}: its weights do not fit config.json, as {odd[0]}. Copy it again."
        )
    return model


def hash_weights(network: torch.nn.Module) -> str:
    """Return the SHA-256 of a network's tensors: names, shapes and bytes, in order of name.

    It is the same whatever file the tensors came from, unlike the hash of that file.
    """
    return hash_arrays(
        (name, array.shape, array.dtype.name, array.tobytes())
        for name, tensor in network.state_dict().items()
        for array in [tensor.detach().cpu().contiguous().numpy()]
    )


def read_config(folder: Path) -> MulapAudioConfig:
    """Read what a folder's config.json says of its backbone.

    Raises:
        ValueError: it says nothing that can be used.
    """
    path = folder / "config.json"
    if not path.is_file():
        names = ", ".join([*bundled_names(), RANDOM])
        raise ValueError(
            f"{folder}: there is no config.json (give a model's folder, or one of {names})"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not JSON. Copy the folder again.") from error
    config = config if isinstance(config, dict) else {}
    audio = config.get("audio_config") if config.get("model_type") == "mulap" else config
    if not isinstance(audio, dict) or audio.get("model_type") != MulapAudioConfig.model_type:
        model_type = config.get("model_type")
        raise ValueError(
            f"{path}: a model of type '{model_type}' has no musicnn. Give a MuLaP model."
        )
    return read_audio_config(audio, path)


def read_weights(
    folder: Path, prefixes: Sequence[str], parts: tuple[str, ...]
) -> dict[str, torch.Tensor]:
    """Read the tensors of some parts of a model.

    Args:
        folder: of the safetensors.
        prefixes: where the parts may hang in; the first one that is there counts.
        parts: how the names begin after the prefix.

    Returns:
        The tensors, by their names without the prefix; none if no prefix is there.

    Raises:
        ValueError: there are no safetensors, or they cannot be read.
    """
    shards = sorted(folder.glob("model*.safetensors"))
    if not shards:
        raise ValueError(f"{folder}: there is no model.safetensors. Other formats are not read.")
    where: dict[str, Path] = {}
    weights = {}
    try:
        for shard in shards:
            with safe_open(shard, framework="pt") as file:
                where.update(dict.fromkeys(file.keys(), shard))
        for prefix in prefixes:
            starts = tuple(prefix + part for part in parts)
            if any(name.startswith(starts) for name in where):
                break
        else:
            return {}
        for shard in shards:
            with safe_open(shard, framework="pt") as file:
                for name in (name for name in where if where[name] == shard):
                    if name.startswith(starts):
                        weights[name.removeprefix(prefix)] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(
            f"{folder}: its weights cannot be read, {error}. Copy it again."
        ) from error
    return weights
