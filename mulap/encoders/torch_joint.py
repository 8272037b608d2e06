"""The joint space and the co-attention by PyTorch; see `mulap.encoders.joint`."""

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mulap.encoders.backbones import hash_weights, load_part, load_whole, loading, read_weights
from mulap.encoders.joint import JointSpace, no_joint_space
from mulap.encoders.tokens import Tokenizer, Tokens
from mulap.fast.threads import one_torch_thread
from mulap.model.audio_input import FeatureNorm, audio_projection
from mulap.model.bundled import locate_weights
from mulap.model.coattention import CoAttentionBlock
from mulap.model.config import MulapConfig
from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTraining

_FEW_SENTENCES = 4
_TEXT = ("model", "tokenizer")


class AudioProjection(nn.Module):
    """The contrastive head's audio side; its tensors have the names that `MulapModel` gives."""

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        self.feature_norm = FeatureNorm(config)
        self.audio_projection = audio_projection(config)

    def forward(self, features: Tensor) -> Tensor:
        """Map the backbone's features, or their mean over a track, (M, A) to points (M, D)."""
        return normalize(self.audio_projection(self.feature_norm(features)), dim=-1)


class TorchJoint(JointSpace):
    """The joint space of a model's folder.

    Args:
        name_or_path: a bundled name or a folder.

    Attributes:
        config: of the model.
        projection: of the audio, in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: the model has no contrastive head, or it is not whole.
    """

    def __init__(self, name_or_path: str | os.PathLike[str]) -> None:
        self.folder = Path(locate_weights(name_or_path)).absolute()
        self.config = config = read_joint_config(os.fspath(name_or_path), self.folder)
        weights = read_weights(self.folder, ("mulap.", ""), ("feature_norm.", "audio_projection."))
        self.size: int = config.projection_dim
        self.can_match = MulapForPreTraining.__name__ in (config.architectures or ())
        self.projection = load_part(AudioProjection, config, weights, self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the text branch out of what is sent to other processes, which embed audio."""
        return {name: value for name, value in self.__dict__.items() if name not in _TEXT}

    @torch.inference_mode()
    def project(self, features: np.ndarray) -> np.ndarray:
        """See `JointSpace.project`."""
        with one_torch_thread():
            return self.projection(torch.from_numpy(features)).numpy()

    def sha256(self) -> str:
        """See `JointSpace.sha256`."""
        return hash_weights(self.projection)

    @cached_property
    def model(self) -> MulapModel | MulapForPreTraining:
        """The whole model, in evaluation mode, float32, on the CPU."""
        kind = MulapForPreTraining if self.can_match else MulapModel
        return load_whole(kind, self.folder).float().eval()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """See `JointSpace.tokenizer`."""
        text = self.config.text_config
        return Tokenizer(self.folder, text.max_position_embeddings, text.vocab_size)

    @torch.inference_mode()
    def embed_tokens(self, tokens: Tokens) -> np.ndarray:
        """See `JointSpace.embed_tokens`."""
        model = self.model
        if isinstance(model, MulapForPreTraining):
            model = model.mulap
        # More threads gain nothing on a query, and wait for each other on a busy machine.
        with one_torch_thread() if len(tokens.ids) <= _FEW_SENTENCES else nullcontext():
            return model.get_text_features(*map(torch.from_numpy, tokens)).numpy()

    def match(
        self, clips: Sequence[np.ndarray], tokens: Tokens, hidden: Sequence[np.ndarray] | None
    ) -> np.ndarray:
        """See `JointSpace.match`."""
        masks = None if hidden is None else map(torch.from_numpy, hidden)
        ids, mask = map(torch.from_numpy, tokens)
        return self._heads.pairs(map(torch.from_numpy, clips), ids, mask, hidden=masks)[
            "atm"
        ].numpy()

    @torch.inference_mode()
    def score_words(self, features: np.ndarray, tokens: Tokens, is_asked: np.ndarray) -> np.ndarray:
        """See `JointSpace.score_words`."""
        _, text = self._fuse(features, tokens)
        return self._heads.mlm_head(text[torch.from_numpy(is_asked)]).numpy()

    @torch.inference_mode()
    def attend(self, features: np.ndarray, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """See `JointSpace.attend`."""
        of_words, of_audio = [], []

        def look(block: CoAttentionBlock, streams: tuple[Tensor, ...]) -> None:
            audio, text, audio_mask, text_mask = streams
            of_words.append(block.text.attention.weights(text, audio, audio_mask))
            of_audio.append(block.audio.attention.weights(audio, text, text_mask))

        blocks = [
            block
            for block in self._heads.mulap.coattention.blocks
            if isinstance(block, CoAttentionBlock)
        ]
        handles = [block.register_forward_pre_hook(look) for block in blocks]
        try:
            self._fuse(features, tokens)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat(of_words).numpy(), torch.cat(of_audio).numpy()

    def _fuse(self, features: np.ndarray, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Pass one clip and N sentences through the co-attention; see `MulapModel.fuse`."""
        model = self._heads.mulap
        ids, mask = map(torch.from_numpy, tokens)
        is_segment = torch.ones(len(ids), len(features), dtype=torch.long)
        audio = model.encode_audio(torch.from_numpy(features)[None], is_segment[:1])
        audio = audio.expand(len(ids), -1, -1)
        return model.fuse(audio, model.encode_text(ids, mask), is_segment, mask)

    @property
    def _heads(self) -> MulapForPreTraining:
        assert isinstance(self.model, MulapForPreTraining)  # it can match
        return self.model


def read_joint_config(name: str, folder: Path) -> MulapConfig:
    """Read the config of a model with a contrastive head.

    Args:
        name: of the model, for messages.
        folder: of the model.

    Raises:
        NoJointSpace: it has none.
        ValueError: its config cannot be used.
    """
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise no_joint_space(name) from error
    is_ours = isinstance(values, dict) and values.get("model_type") == MulapConfig.model_type
    if not (is_ours and values.get("has_contrastive_head")):
        raise no_joint_space(name)
    with loading(f"{folder / 'config.json'}: cannot be used"):
        return MulapConfig.from_pretrained(folder)
