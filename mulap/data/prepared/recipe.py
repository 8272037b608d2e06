"""`Recipe`: what `mulap prepare` stores of each track, by what settings. Reads no file."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from mulap.model.features import MulapFeatureExtractor

Store = Literal["log-mel", "pcm", "tars"]

DTYPES: dict[Store, tuple[str, ...]] = {
    "log-mel": ("float32", "float16"),
    "pcm": ("int16", "float32"),
    "tars": ("int16",),
}
"""What can be stored, and as which numbers; the first is the default."""

PREPARE_OPTIONS = ("variant", "db_reference")
"""Settings of a log-mel that are options of `mulap prepare`; models differ in no others so far."""


@dataclass(frozen=True)
class Recipe:
    """What is stored of each track."""

    store: Store  # `log-mel`, what the model is fed; `pcm`, mono samples; or `tars` of FLAC files
    dtype: str  # of the numbers stored, one of `DTYPES[store]`
    seconds: float | None  # how much of each track, from its start; None means all of it
    audio: dict[str, Any]  # settings of the feature extractor, those that what is stored depends on
    group_column: str | None = None  # the column that named the group, None where it was found

    def __post_init__(self) -> None:
        if self.store not in DTYPES:
            raise ValueError(f"store {self.store!r}: must be one of {', '.join(DTYPES)}")
        if self.dtype not in DTYPES[self.store]:
            choices = " or ".join(DTYPES[self.store])
            raise ValueError(f"dtype {self.dtype!r}: {self.store} is stored as {choices}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds {self.seconds:g}: must be more than 0")


def audio_settings(extractor: "MulapFeatureExtractor", store: Store) -> dict[str, Any]:
    """Return the settings of an extractor that what is stored depends on."""
    if store == "log-mel":
        return extractor.log_mel_settings()
    return {"sampling_rate": extractor.sampling_rate}
