"""How large everything is: the true size, which takes about 15 minutes, and a toy's, seconds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Attributes are counts of what their names say.

    Attributes:
        is_toy: networks are tiny where they can be.
        file_seconds: length of the sound files.
        files_per_format: of mp3, flac, ogg and wav each.
        embedding_rounds: of the table with the slow contestants.
        slow_files: of all those, how many the slowest contestants get; one of each format first.
        backbone_segments: of 3 s, that the CNN alone is given.
        shares_files: of a format, in a run of the table that says where the time goes.
        shares_rounds: of the table that says where the time goes.
        lengths_minutes: of the files on which cost and memory may grow.
        batches: (pairs, rounds) of the training step, the slowest table.
        pass_segments: of 3 s, in a forward and backward pass of the backbone.
        text_batch: captions in a pass of the text side.
        probe_tracks: tracks of `probe_segments` segments each.
        probe_segments: of a track.
        probe_epochs: of a probe.
        probe_seeds: of a probe.
        probe_batch: tracks a batch.
        probe_rounds: of probing, which is slow.
        probe_files: embedded to say how long filling the cache would take.
        matrix_size: rows and columns of the product that gives the matrix limit.
        num_bytes: that are copied and touched.
    """

    is_toy: bool = False
    file_seconds: float = 30.0
    files_per_format: int = 4
    embedding_rounds: int = 3
    slow_files: int = 4
    backbone_segments: int = 40
    shares_files: int = 8
    shares_rounds: int = 2
    lengths_minutes: tuple[float, ...] = (1, 10, 60)
    batches: tuple[tuple[int, int], ...] = ((8, 3), (16, 2))
    pass_segments: int = 8
    text_batch: int = 8
    probe_tracks: int = 1000
    probe_segments: int = 10
    probe_epochs: int = 200
    probe_seeds: int = 3
    probe_batch: int = 64
    probe_rounds: int = 2
    probe_files: int = 24
    matrix_size: int = 2048
    num_bytes: int = 512 * 2**20


FULL = Sizes()
TOY = Sizes(
    is_toy=True,
    file_seconds=3.5,
    files_per_format=1,
    slow_files=1,
    backbone_segments=1,
    shares_files=4,
    lengths_minutes=(0.06, 0.12),
    batches=((2, 1),),
    pass_segments=1,
    text_batch=2,
    probe_tracks=20,
    probe_segments=2,
    probe_epochs=2,
    probe_seeds=2,
    probe_batch=2,
    probe_files=1,
    matrix_size=64,
    num_bytes=2**16,
)
