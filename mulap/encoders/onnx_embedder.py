"""Our own networks by onnxruntime and numpy, without PyTorch.

The graphs lie in a model's folder, see `mulap.graphs.write`; their numbers are those of
`mulap.encoders.embedder` and `mulap.encoders.torch_joint`, but for the last bits.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from mulap.cores import num_threads as count_threads
from mulap.encoders.backend import INSTALL_TORCH
from mulap.encoders.encoder import Space
from mulap.encoders.joint import JointSpace, no_joint_space
from mulap.encoders.own import OwnEncoder
from mulap.encoders.segments import group_segments
from mulap.encoders.tokens import Tokenizer, Tokens
from mulap.encoders.weights import hash_stored
from mulap.model.bundled import locate_weights
from mulap.model.cuts import Cuts
from mulap.pools import BlockMapper, thread_mapper

_PAIRS_AT_ONCE = 512
_BACKBONE = ("mulap.audio_backbone.", "audio_backbone.", "backbone.", "")
GRAPHS_VERSION = 1  # of graphs; raised where older ones can no longer be run
_ERRORS = 3  # onnxruntime's level of messages
_Feeds = dict[str, np.ndarray]


class _Graph:
    """A graph of a folder, loaded when it is run first.

    Args:
        folder: of the model.
        name: of the file, without its ending.
        is_threaded: whether one call runs on all cores. Calls on one core each may overlap.
    """

    def __init__(self, folder: Path, name: str, is_threaded: bool = True) -> None:
        self.path, self._is_threaded = folder / f"{name}.onnx", is_threaded

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what other processes have to load themselves."""
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __call__(self, output: str, **inputs: np.ndarray) -> np.ndarray:
        """Return one output; some of its rows may not depend on the others."""
        return self.run([output], inputs)[0]

    def run(self, outputs: Sequence[str], inputs: _Feeds) -> list[np.ndarray]:
        """Return some outputs."""
        return self._session.run(list(outputs), inputs)

    @property
    def metadata(self) -> dict[str, Any]:
        """What `mulap.graphs.build` wrote beside the graph."""
        metadata = json.loads(self._session.get_modelmeta().custom_metadata_map.get("mulap", "{}"))
        if metadata.get("version") != GRAPHS_VERSION:
            raise ValueError(
                f"{self.path}: was written by another version of mulap. Run mulap export again."
            )
        return metadata

    @cached_property
    def _session(self) -> Any:
        if not self.path.is_file():
            folder = self.path.parent
            raise ValueError(
                f"{folder}: has no {self.path.name}, which runs without PyTorch. Run mulap export "
                f"{folder} OUT where PyTorch is. Or {INSTALL_TORCH[0].lower()}{INSTALL_TORCH[1:]}."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count_threads() if self._is_threaded else 1
        options.log_severity_level = _ERRORS
        # Threads that wait for work would keep a core busy.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(
                os.fspath(self.path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its kinds are not public
            raise ValueError(
                f"{self.path}: cannot be loaded, {_shorten(error)}. Copy the folder again."
            ) from error


class OnnxEmbedder(OwnEncoder):
    """A model's backbone, and perhaps its tagging head.

    Args:
        name_or_path: a bundled name or a folder with graphs.
        space: of the vectors.

    Raises:
        ValueError: there are no graphs, they cannot be loaded, or the model has no joint space.
    """

    is_threaded = True

    def __init__(self, name_or_path: str | os.PathLike[str], space: Space = "backbone") -> None:
        self.name = os.fspath(name_or_path)
        self.folder = Path(locate_weights(name_or_path)).absolute()
        self._audio = _Graph(self.folder, "audio", is_threaded=False)
        self._head = _Graph(self.folder, "tags")
        metadata = self._audio.metadata
        self.feature_extractor = Cuts(**metadata["cuts"])
        self.tags = tuple(metadata["tags"])
        self.embedding_size = self.feature_size = metadata["size"]
        if space == "joint":
            self.embedding_size, self.space = self.joint.size, "joint"

    @cached_property
    def joint(self) -> "OnnxJoint":
        """See `OwnEncoder.joint`."""
        return OnnxJoint(self.name, self.folder)

    def weights_sha256(self) -> str:
        """See `OwnEncoder.weights_sha256`."""
        return hash_stored(self.folder, _BACKBONE, ("front_end.", "mid_end.", "more."), True)

    def cores(self) -> AbstractContextManager[int]:
        """See `OwnEncoder.cores`."""
        return nullcontext(count_threads())

    def block_mapper(self, num_threads: int | None = None) -> AbstractContextManager[BlockMapper]:
        """See `OwnEncoder.block_mapper`."""
        return thread_mapper(num_threads or count_threads())

    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield a clip's segments, each (M, segment_samples)."""
        return group_segments(self.feature_extractor, blocks)

    def embed_input(self, some: np.ndarray) -> np.ndarray:
        """Return the backbone's features, float32 (M, A), of segments (M, segment_samples)."""
        # One at a time: what one needs stays in cache.
        return np.concatenate(
            [self._audio("features", samples=some[i : i + 1]) for i in range(len(some))]
        )

    def score_tags(self, vectors: np.ndarray) -> np.ndarray:
        """See `Encoder.score_tags`."""
        return self._head("tags", features=vectors)


class OnnxJoint(JointSpace):
    """The joint space of a folder with graphs.

    Args:
        name: of the model, for messages.
        folder: of the model.

    Raises:
        ValueError: the model has no contrastive head.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        self._project, self._text = (_Graph(folder, each) for each in ("project", "text"))
        self._match, self._words = (_Graph(folder, each) for each in ("match", "words"))
        if not self._project.path.is_file():
            raise no_joint_space(name)
        metadata = self._project.metadata
        self.size, self.can_match = metadata["size"], metadata["can_match"]
        self._most_tokens, self._vocab_size = metadata["most_tokens"], metadata["vocab_size"]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the tokenizer: other processes embed audio."""
        return {name: value for name, value in self.__dict__.items() if name != "tokenizer"}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """See `JointSpace.tokenizer`."""
        return Tokenizer(self.folder, self._most_tokens, self._vocab_size)

    def project(self, features: np.ndarray) -> np.ndarray:
        """See `JointSpace.project`."""
        return self._project("points", features=features)

    def sha256(self) -> str:
        """See `JointSpace.sha256`."""
        parts = ("feature_norm.", "audio_projection.")
        return hash_stored(self.folder, ("mulap.", ""), parts, True)

    def embed_tokens(self, tokens: Tokens) -> np.ndarray:
        """See `JointSpace.embed_tokens`."""
        return self._text("points", ids=tokens.ids, mask=tokens.mask)

    def match(
        self, clips: Sequence[np.ndarray], tokens: Tokens, hidden: Sequence[np.ndarray] | None
    ) -> np.ndarray:
        """See `JointSpace.match`."""
        states = self._states(tokens)
        num_pairs = len(clips) * len(tokens.ids)
        clip, caption = np.divmod(np.arange(num_pairs), len(tokens.ids))
        inputs = _pad(clips, hidden) | {"states": states, "mask": tokens.mask}
        log_odds = [
            self._match(
                "log_odds",
                **inputs,
                clip=clip[first : first + _PAIRS_AT_ONCE],
                caption=caption[first : first + _PAIRS_AT_ONCE],
            )
            for first in range(0, num_pairs, _PAIRS_AT_ONCE)
        ]
        return np.concatenate(log_odds).reshape(len(clips), -1)

    def score_words(self, features: np.ndarray, tokens: Tokens, is_asked: np.ndarray) -> np.ndarray:
        """See `JointSpace.score_words`."""
        (words,) = self._fuse(["words"], features, tokens)
        return self._words("scores", words=words[is_asked])

    def attend(self, features: np.ndarray, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """See `JointSpace.attend`."""
        of_words, of_audio = self._fuse(["of_words", "of_audio"], features, tokens)
        return of_words[0], of_audio[0]

    def _states(self, tokens: Tokens) -> np.ndarray:
        return self._text("states", ids=tokens.ids, mask=tokens.mask)

    def _fuse(self, outputs: list[str], features: np.ndarray, tokens: Tokens) -> list[np.ndarray]:
        """Pass one clip and N sentences through the co-attention."""
        caption = np.arange(len(tokens.ids))
        inputs = {"states": self._states(tokens), "mask": tokens.mask, "caption": caption}
        clip = {"clip": np.zeros_like(caption)}
        return self._match.run(outputs, _pad([features], None) | inputs | clip)


def _pad(clips: Sequence[np.ndarray], hidden: Sequence[np.ndarray] | None) -> _Feeds:
    """Put clips (T, A) of several lengths, and which segments are hidden, into one array each."""
    lengths = np.array([len(clip) for clip in clips])
    is_segment = np.arange(lengths.max()) < lengths[:, None]
    features = np.zeros((*is_segment.shape, clips[0].shape[1]), np.float32)
    features[is_segment] = np.concatenate(clips)
    is_hidden = np.zeros_like(is_segment)
    if hidden is not None:
        is_hidden[is_segment] = np.concatenate(hidden)
    return {"features": features, "is_segment": is_segment, "is_hidden": is_hidden}


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
