"""Tables of inference: files to embeddings, and what that is made of."""

import tempfile
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.authors import plain_backbone
from benchmarks.machine import count_gflop
from benchmarks.measure import Conditions, Contestant, Spread, digits, race
from benchmarks.problems import make_music, write_files, write_music
from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table, format_memory, rate_rows, ratio

OURS, PUBLIC = "mulap, `port`", "mulap, `original` with the public weights"
CNN = "mulap's CNN alone, `port`"
AUTHORS, MUSICNN = "authors' recipe (librosa, a segment at a time)", "musicnn package (TensorFlow)"
MERT, CLAP = "MERT-95M's architecture", "CLAP HTSAT-tiny's architecture"
MUSICNN_PYTHON = Path(__file__).resolve().parent / ".venv" / "bin" / "python"
SETUP_MUSICNN = "make its environment by `benchmarks/setup_musicnn.sh`"
LIMIT = "matrix limit, for `port`'s operations"
SEGMENT_SECONDS = 3
RATE_HEAD = ["", "s of audio a s", "mulap ÷ this", "of the limit", "memory"]


def count_backbone_gflop() -> float:
    """Return the GFLOP that the plain `port` musicnn takes for a second of audio."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain_backbone()(torch.zeros(1, 96, 188))
    return counter.get_total_flops() / 1e9 / SEGMENT_SECONDS


def musicnn(name: str, function: str, amount: float, **arguments: object) -> Contestant:
    """Return a contestant that runs in TensorFlow's environment."""
    target = f"benchmarks.musicnn_tf:{function}"
    return Contestant(name, target, arguments, amount, MUSICNN_PYTHON, SETUP_MUSICNN)


def matrix_limit(conditions: Conditions, sizes: Sizes) -> Contestant:
    """Return the matrix product as a contestant; its work is the audio that it would embed."""
    arguments = {"size": sizes.matrix_size, "threads": conditions.threads}
    amount = count_gflop(sizes.matrix_size) / count_backbone_gflop()
    return Contestant(LIMIT, "benchmarks.machine:multiply", arguments, amount)


def measure_embedding(conditions: Conditions, sizes: Sizes) -> Table:
    """Time files of all formats to 3-second embeddings, by us and by all others."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), sizes.file_seconds, sizes.files_per_format)
        # One of each format first, so that the slow ones get one of each.
        mixed = [path for paths in zip(*files.values(), strict=True) for path in paths]
        few = mixed[: sizes.slow_files]
        seconds, few_seconds = len(mixed) * sizes.file_seconds, len(few) * sizes.file_seconds
        toy = {"is_toy": sizes.is_toy}
        num_segments = max(1, int(sizes.file_seconds // SEGMENT_SECONDS)) * len(mixed)
        contestants = [
            Contestant(OURS, "benchmarks.ours:embed", {"files": mixed}, seconds),
            Contestant(
                CNN,
                "benchmarks.ours:run_backbone",
                {"num_segments": num_segments},
                num_segments * SEGMENT_SECONDS,
            ),
            Contestant(
                PUBLIC,
                "benchmarks.ours:embed",
                {"files": mixed, "encoder": "musicnn-mtt"},
                seconds,
            ),
            Contestant(AUTHORS, "benchmarks.authors:embed", {"files": mixed}, seconds),
            musicnn(MUSICNN, "embed", few_seconds, files=few),
            Contestant(MERT, "benchmarks.others:mert", {"files": few} | toy, few_seconds),
            Contestant(CLAP, "benchmarks.others:clap", {"files": mixed} | toy, seconds),
            matrix_limit(conditions, sizes),
        ]
        outcomes = race(contestants, conditions, sizes.embedding_rounds)
    rows = rate_rows(outcomes, OURS, LIMIT)
    for row in rows:
        if row[0] in (MERT, CLAP):
            row[3] = ""  # its network does another number of operations
    asked = {AUTHORS: 2.2, MUSICNN: 10, MERT: 20, CLAP: 2.5}
    goals = [
        Goal(f"files to embeddings, against {other}", least, ratio(outcomes, OURS, other))
        for other, least in asked.items()
    ]
    share = outcomes[OURS].times(outcomes[CNN])
    goals.append(
        Goal("files to embeddings, against its CNN alone", 85, share.scaled(100), unit=" %")
    )
    notes = [
        f"{len(mixed)} files of {sizes.file_seconds:g} s, 44.1 kHz stereo: mp3, flac, ogg and wav "
        f"alike. The musicnn package and MERT get {len(few)} of them. The limit is what the plain "
        f"`port` network, {digits(count_backbone_gflop())} GFLOP a second of audio, would reach as "
        "one large matrix product; with fewer operations it can be passed."
    ]
    return Table(
        "embedding",
        "Files to embeddings",
        RATE_HEAD,
        rows,
        notes,
        goals,
        list(outcomes.values()),
    )


def measure_formats(conditions: Conditions, sizes: Sizes) -> Table:
    """Time files of one format to 3-second embeddings, by us and by the authors' recipe."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), sizes.file_seconds, sizes.files_per_format)
        contestants = [
            Contestant(
                f"{name}, {module}",
                f"benchmarks.{module}:embed",
                {"files": paths},
                len(paths) * sizes.file_seconds,
            )
            for name, paths in files.items()
            for module in ("ours", "authors")
        ]
        outcomes = race(contestants, conditions)
    rows = []
    for name in files:
        ours, authors = outcomes[f"{name}, ours"], outcomes[f"{name}, authors"]
        factor = ours.times(authors).format()
        rows.append([name, ours.rate().format(), authors.rate().format(), factor])
    head = ["", "mulap, s of audio a s", "authors' recipe", "mulap ÷ authors"]
    note = (
        f"Files of {sizes.file_seconds:g} s, {sizes.files_per_format} a format, so that the start "
        "and the end, where nothing overlaps, weigh more than in a library."
    )
    title = "Files to embeddings, format by format"
    return Table("formats", title, head, rows, [note], outcomes=list(outcomes.values()))


def measure_cnn(conditions: Conditions, sizes: Sizes) -> Table:
    """Time the networks alone, log-mels to vectors."""
    number = {"num_segments": sizes.backbone_segments}
    amount = sizes.backbone_segments * SEGMENT_SECONDS
    at_once = number | {"at_once": 10}
    public = number | {"encoder": "musicnn-mtt"}
    original = "mulap, `original`"
    contestants = [
        Contestant(OURS, "benchmarks.ours:run_backbone", number, amount),
        Contestant(original, "benchmarks.ours:run_backbone", public, amount),
        Contestant(
            "plain torch, `port`, one segment at a time (the authors')",
            "benchmarks.authors:run_backbone",
            number,
            amount,
        ),
        Contestant(
            "plain torch, `port`, ten at a time",
            "benchmarks.authors:run_backbone",
            at_once,
            amount,
        ),
        musicnn("musicnn in TensorFlow (`original`)", "run_backbone", amount, **number),
        matrix_limit(conditions, sizes),
    ]
    outcomes = race(contestants, conditions)
    rows = rate_rows(outcomes, OURS, LIMIT)
    title = "The CNN alone"
    return Table("cnn", title, RATE_HEAD, rows, outcomes=list(outcomes.values()))


def measure_decoding(conditions: Conditions, sizes: Sizes) -> Table:
    """Time decoding and resampling to 16 kHz mono, and the log-mel, by us and by librosa."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), sizes.file_seconds, 1)
        parts = [
            (f"{name}, decoded to 16 kHz mono", "decode", "load_by_librosa", {"files": paths})
            for name, paths in files.items()
        ]
        parts.append(("log-mel", "log_mel", "mel_by_librosa", {"num_seconds": sizes.file_seconds}))
        contestants = []
        for name, mine, theirs, arguments in parts:
            contestants += [
                Contestant(f"{name}: mulap", f"benchmarks.ours:{mine}", arguments),
                Contestant(f"{name}: librosa", f"benchmarks.others:{theirs}", arguments),
            ]
        outcomes = race(contestants, conditions)
    rows = []
    for name, *_ in parts:
        ours, librosa = outcomes[f"{name}: mulap"], outcomes[f"{name}: librosa"]
        times = [each.milliseconds().format() for each in (ours, librosa)]
        rows.append([name, *times, ours.times(librosa).format()])
    head = [f"{sizes.file_seconds:g} s of audio", "mulap, ms", "librosa, ms", "librosa ÷ mulap"]
    title = "Decoding and log-mel"
    return Table("decoding", title, head, rows, outcomes=list(outcomes.values()))


def measure_growth(conditions: Conditions, sizes: Sizes) -> Table:
    """Embed files of growing length: the cost must grow alike, the memory not at all."""
    contestants, warm_up = [], []
    with tempfile.TemporaryDirectory() as folder:
        music = make_music(min(30.0, 60 * sizes.lengths_minutes[0]), 0)
        for minutes in sizes.lengths_minutes:
            num_times = max(1, round(minutes * 60 * 44_100 / len(music)))
            path = write_music(Path(folder) / f"{minutes:g}.flac", music, num_times)
            name = f"{minutes:g} min"
            warm_up = warm_up or [path]
            arguments = {"files": [path], "warm_up": warm_up}
            contestants.append(Contestant(name, "benchmarks.ours:embed", arguments, minutes))
        # One after the other: each process is new, so that its peak is the file's.
        outcomes = [race([each], conditions, 1)[each.name] for each in contestants]
    rows = [
        [
            outcome.contestant.name,
            digits(outcome.seconds[0]),
            digits(60 * outcome.rates[0]),
            format_memory(outcome.peak_mib),
        ]
        for outcome in outcomes
    ]
    first, last = outcomes[-2:]  # the shortest fills no buffer
    slowdown = (last.seconds[0] / last.contestant.amount) / (
        first.seconds[0] / first.contestant.amount
    )
    added = last.peak_mib - first.peak_mib
    goals = [
        Goal(
            "cost of a minute in the longest file against the one before", 1.1, _one(slowdown), True
        ),
        Goal("memory that the longest file adds", 50, _one(added), True, " MiB"),
    ]
    head = ["one flac file of", "seconds", "s of audio a s", "memory"]
    note = "Each in a process of its own, once; memory is all that the process has held."
    title = "Long files"
    return Table("growth", title, head, rows, [note], goals, outcomes)


def _one(value: float) -> Spread:
    return Spread(value, value, value)
