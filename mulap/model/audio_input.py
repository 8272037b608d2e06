"""From the backbone's features to the audio stream and to the space shared with text.

Shapes: M segments, B clips, T segments of a clip, A features of a segment, Da the width of the
audio stream, D that of the shared space.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from .config import MulapConfig


def valid_mean(values: Tensor, is_counted: Tensor) -> Tensor:
    """Mean over the second dimension of the entries that count.

    Args:
        values: (B, T, D).
        is_counted: (B, T), nonzero where an entry counts. A row in which none does gives zeros.

    Returns:
        Tensor (B, D).
    """
    weights = is_counted.to(values.dtype)
    totals = torch.einsum("btd,bt->bd", values, weights)
    return totals / weights.sum(dim=1, keepdim=True).clamp_min(1.0)


class FeatureNorm(nn.Module):
    """The backbone's features as the transformer sees them, see `MulapConfig.feature_norm`."""

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        self.norm = None
        if config.feature_norm == "batch":
            self.norm = nn.BatchNorm1d(config.audio_config.feature_size, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (M, A) to features (M, A)."""
        if self.norm is None:
            return features
        # One segment has no statistics of its own. (Training over several processes puts in a
        # BatchNorm that has those of all of them.)
        if len(features) == 1 and type(self.norm) is nn.BatchNorm1d:
            return batch_norm(features, self.norm.running_mean, self.norm.running_var)
        return self.norm(features)


class AudioEmbeddings(nn.Module):
    """Features of a clip -> input of the audio stream: linear, plus position, LayerNorm, dropout.

    Position 0 is the global token's. As ViLBERT's image embedding, with time in the place of the
    box coordinates.
    """

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        width = config.audio_hidden_size
        self.projection = nn.Linear(config.audio_config.feature_size, width)
        self.positions = nn.Embedding(1 + config.max_segments, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, 1 + T, A), the global token first, to hidden states (B, 1 + T, Da)."""
        if features.shape[1] > self.positions.num_embeddings:
            raise ValueError(
                f"a clip of {features.shape[1] - 1} segments is longer than max_segments = "
                f"{self.positions.num_embeddings - 1}: crop it or raise max_segments in the config"
            )
        position_ids = torch.arange(features.shape[1], device=features.device)
        return self.dropout(self.norm(self.projection(features) + self.positions(position_ids)))


def audio_projection(config: MulapConfig) -> nn.Module:
    """Return what maps pooled features (B, A) into the space shared with text (B, D)."""
    hidden = [config.projection_hidden_size] if config.projection_hidden_size else []
    sizes = [config.audio_config.feature_size, *hidden, config.projection_dim]
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Dropout(config.projection_dropout), nn.Linear(inputs, outputs), nn.GELU()]
    # A linear layer alone keeps the names of its tensors from mulap 0.1.
    is_plain = not (hidden or config.projection_dropout)
    return layers[1] if is_plain else nn.Sequential(*layers[:-1])
