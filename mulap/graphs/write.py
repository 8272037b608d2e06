"""A model's folder -> the same with ONNX graphs beside the weights.

    audio.onnx     samples of segments -> features, and points of the joint space
    tags.onnx      features -> a tagger's probabilities
    project.onnx   features, or their mean over a track -> points
    text.onnx      tokens -> points, and the states that match.onnx reads
    match.onnx     features and states -> log-odds that they belong together; what looks at what
    words.onnx     states of words beside a clip -> scores of the vocabulary

Only the graphs that the model has parts for are written.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from mulap.encoders.backbones import read_config
from mulap.encoders.joint import NoJointSpace
from mulap.encoders.torch_joint import read_joint_config
from mulap.graphs.audio import add_log_mel, add_tower
from mulap.graphs.build import BOOL, FLOAT, INT64, Graph
from mulap.graphs.text import (
    add_matching,
    add_projection,
    add_tagging_head,
    add_text_model,
    add_words,
)
from mulap.model.bundled import locate_weights
from mulap.model.cuts import Cuts
from mulap.model.musicnn import BATCH_NORM_EPS, MusicnnForTagging
from mulap.model.pretraining import MulapForPreTraining

_BACKBONE = ("mulap.audio_backbone.", "audio_backbone.", "backbone.", "")
_MODEL = ("mulap.", "")
_COPIED = (".json", ".safetensors", ".txt", ".md")


def write_export(name_or_path: str | os.PathLike[str], out: Path) -> list[Path]:
    """Copy a model's folder, without code, and write its graphs into the copy.

    Args:
        name_or_path: a bundled name or a folder.
        out: the new folder; there must be none, or an empty one.

    Returns:
        The graphs.

    Raises:
        ValueError: there is no such model, a part of it cannot be a graph, or the folder is there.
    """
    folder = Path(locate_weights(name_or_path))
    read_config(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is there already. Give another folder, or delete it.")
    unfinished = out.with_name(f".{out.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)  # of an export that was killed
    unfinished.mkdir(parents=True)
    for path in folder.iterdir():
        if path.suffix in _COPIED or path.name == "LICENSE":
            shutil.copyfile(path, unfinished / path.name)
    graphs = write_graphs(unfinished)
    os.replace(unfinished, out)
    return [out / path.name for path in graphs]


def write_graphs(folder: Path) -> list[Path]:
    """Write the graphs of the model in a folder; return their paths.

    Raises:
        ValueError: the model is not whole, or a part of it cannot be a graph.
    """
    config = read_config(folder)
    try:
        joint = read_joint_config(os.fspath(folder), folder)
    except NoJointSpace:
        joint = None
    written = [_write_audio(folder, config, joint)]
    features: Any = {"features": (FLOAT, ["segments", config.feature_size])}
    if MusicnnForTagging.__name__ in (config.architectures or ()):
        graph, path = Graph(folder), folder / "tags.onnx"
        scores = add_tagging_head(graph, "features", BATCH_NORM_EPS[config.variant])
        doc = "A backbone's features -> probabilities of tags, in the order of the metadata."
        graph.save(path, features, {"tags": (scores, ["segments", config.num_labels])}, {}, doc)
        written.append(path)
    if joint:
        graph, path = Graph(folder, _MODEL), folder / "project.onnx"
        points = add_projection(graph, "features", joint)
        doc = "Features of segments, or their mean over a track -> points of unit length."
        outputs = {"points": (points, ["segments", joint.projection_dim])}
        metadata = {
            "size": joint.projection_dim,
            "most_tokens": joint.text_config.max_position_embeddings,
            "vocab_size": joint.text_config.vocab_size,
            "can_match": MulapForPreTraining.__name__ in (joint.architectures or ()),
        }
        graph.save(path, features, outputs, metadata, doc)
        written += [path, *_write_text(folder, joint, metadata["can_match"])]
    return written


def _write_audio(folder: Path, config: Any, joint: Any) -> Path:
    graph, path, cuts = Graph(folder, (*_BACKBONE, *_MODEL)), folder / "audio.onnx", None
    cuts = Cuts.from_config(config)
    log_mel = add_log_mel(graph, "samples", cuts)
    vectors = [
        vector
        for index in range(config.num_towers)
        for vector in add_tower(graph, log_mel, f"more.{index - 1}." if index else "", config)
    ]
    features = graph.Concat(*vectors, axis=1)
    outputs = {"features": (features, ["segments", config.feature_size])}
    if joint:
        points = add_projection(graph, features, joint)
        outputs["points"] = (points, ["segments", joint.projection_dim])
    is_tagger = MusicnnForTagging.__name__ in (config.architectures or ())
    labels = sorted((config.id2label or {}).items()) if is_tagger else []
    metadata = {
        "cuts": cuts.log_mel_settings(),
        "tags": [label for _, label in labels],
        "size": config.feature_size,
    }
    seconds, rate = cuts.segment_seconds, cuts.sampling_rate
    doc = f"Mono samples at {rate:,} Hz, segments of {seconds:g} s -> a vector each."
    graph.save(
        path, {"samples": (FLOAT, ["segments", cuts.segment_samples])}, outputs, metadata, doc
    )
    return path


def _write_text(folder: Path, joint: Any, can_match: bool) -> list[Path]:
    text = joint.text_config
    if text.hidden_act != "gelu":
        raise ValueError(f"{folder}: its text model has {text.hidden_act}. Use one with gelu.")
    graph, width = Graph(folder, _MODEL), text.hidden_size
    tokens: Any = {name: (INT64, ["sentences", "tokens"]) for name in ("ids", "mask")}
    points, states = add_text_model(graph, "ids", "mask", joint)
    outputs: Any = {
        "points": (points, ["sentences", joint.projection_dim]),
        "states": (states, ["sentences", "tokens", width]),
    }
    doc = "Token ids and where there is a token -> points of unit length, and states of words."
    written = [folder / "text.onnx"]
    graph.save(written[0], tokens, outputs, {}, doc)
    if not can_match:
        return written
    graph, size = Graph(folder, _MODEL), joint.audio_config.feature_size
    fused = add_matching(graph, joint)
    inputs: Any = {
        "features": (FLOAT, ["clips", "segments", size]),
        "is_segment": (BOOL, ["clips", "segments"]),
        "is_hidden": (BOOL, ["clips", "segments"]),
        "states": (FLOAT, ["sentences", "tokens", width]),
        "mask": tokens["mask"],
        "clip": (INT64, ["pairs"]),
        "caption": (INT64, ["pairs"]),
    }
    outputs = {
        "log_odds": (fused.log_odds, ["pairs"]),
        "words": (fused.words, ["pairs", "tokens", width]),
        "of_words": (fused.of_words, ["pairs", "layers", "heads", "tokens", "1 + segments"]),
        "of_audio": (fused.of_audio, ["pairs", "layers", "audio heads", "1 + segments", "tokens"]),
    }
    doc = "Clips and sentences -> log-odds of a match of each pair, and the co-attention's weights."
    graph.save(folder / "match.onnx", inputs, outputs, {}, doc)
    graph = Graph(folder, _MODEL)
    scores = add_words(graph, "words", joint)
    doc = "States of words beside a clip, from match.onnx -> scores of the vocabulary."
    states_in: Any = {"words": (FLOAT, ["places", width])}
    graph.save(
        folder / "words.onnx", states_in, {"scores": (scores, ["places", text.vocab_size])}, {}, doc
    )
    return [*written, folder / "match.onnx", folder / "words.onnx"]
