"""`MulapProcessor`: a feature extractor for the audio and a tokenizer for the text, as one."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import (
    AutoFeatureExtractor,
    AutoProcessor,
    BatchFeature,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from .bundled import locate_weights
from .config import MulapConfig
from .features import MulapFeatureExtractor


class MulapProcessor(ProcessorMixin):
    """Audio and text in, a model's inputs out, with the call that users of CLAP know.

    Args:
        feature_extractor: waveform -> log-mel segments.
        tokenizer: a BERT WordPiece tokenizer.
    """

    feature_extractor: MulapFeatureExtractor
    tokenizer: PreTrainedTokenizerBase

    def __init__(
        self, feature_extractor: MulapFeatureExtractor, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        super().__init__(feature_extractor, tokenizer)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> Any:
        """Load from a bundled name (`mulap-small`), a folder or the hub."""
        return super().from_pretrained(locate_weights(pretrained_model_name_or_path), **kwargs)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        audio: np.ndarray | list[Any] | None = None,
        sampling_rate: int | None = None,
        max_segments: int | None = None,
        return_tensors: str | None = None,
        padding: bool | str = True,
        truncation: bool = True,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Prepare captions, waveforms or both.

        Args:
            text: a caption or several.
            audio: one clip or several, as `MulapFeatureExtractor` takes them.
            sampling_rate: of the audio, in Hz.
            max_segments: keep that many segments from the start of each waveform.
            return_tensors: "pt" for torch, "np" for numpy.
            padding: as in tokenizers; True pads to the longest caption.
            truncation: cut captions to `max_length`.
            max_length: most tokens of a caption. None: the tokenizer's own limit.

        Returns:
            BatchFeature with `input_features` (B, T, F, N) and `audio_attention_mask` (B, T) for
            audio, `input_ids` and `attention_mask` (C, L) for text.

        Raises:
            ValueError: neither text nor audio was given, or the rate is not the extractor's.
        """
        if text is None and audio is None:
            raise ValueError("nothing to process: give text=, audio= or both")
        batch = BatchFeature({}, tensor_type=return_tensors)
        if audio is not None:
            batch.update(
                self.feature_extractor(
                    audio,
                    sampling_rate=sampling_rate,
                    max_segments=max_segments,
                    return_tensors=return_tensors,
                )
            )
        if text is not None:
            tokens = self.tokenizer(
                [text] if isinstance(text, str) else list(text),
                padding=padding,
                truncation=truncation,
                max_length=max_length,
                return_tensors=return_tensors,
                return_token_type_ids=False,
            )
            batch.update(tokens)
        return batch


AutoFeatureExtractor.register(MulapConfig, MulapFeatureExtractor, exist_ok=True)
AutoProcessor.register(MulapConfig, MulapProcessor, exist_ok=True)
MulapProcessor.register_for_auto_class()
