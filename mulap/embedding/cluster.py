"""Embedding on many machines, or in many processes of one, into one table: by Ray Data.

    driver    lists the files, holds the output      actor    loads the encoder once
      |  blocks of files, some hundred bytes each  ---->  embeds a file by `vectors_of_file`
      |  where each file's rows are, or why not    <----  appends them to a part of its own
      |                                                       in OUT.parts, a folder all share
      '- puts the output together; a folder's shards are written by tasks, many at a time

Vectors never pass through the driver or Ray's object store. Shared by all machines must be: the
audio, the output's folder, a model's folder, all under one absolute path; and mulap is installed.

An actor whose process dies is started again, and so is its block; rows that it had finished twice
are the same, and count once. A file that kills its process `DEATHS_OF_A_FILE` times is listed as a
failure. A run that was killed goes on with `skip_existing`, by this engine or without.
"""

import contextlib
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mulap.audio import AudioError
from mulap.embedding.embed import Job, SegmentProgress
from mulap.embedding.pipeline import FileToEmbed, check_unchanged, look, vectors_of_file
from mulap.encoders.encoder import Encoder, Level, Space
from mulap.encoders.load import load_encoder, making_of
from mulap.vectors.output import EmbeddingOutput, LinePrinter
from mulap.vectors.store import Entry, VectorWriter, fingerprint
from mulap.vectors.table import Making, Shard, write_shard

try:
    import ray
    import ray.data
    import ray.exceptions
except ModuleNotFoundError as error:
    raise ValueError("the package ray is missing. Run pip install 'ray[data]'") from error

from mulap.embedding.ray_start import (
    check_gpus,
    count_actors,
    get_result,
    last_line,
    quiet_ray,
    start_ray,
)

DEATHS_OF_A_FILE = 3
_DEATHS_WHILE_LOADING = 10  # on one machine; Ray itself starts an actor again without end
_FILES_PER_BLOCK = 16  # lost with a process, at most; about a minute of one core
_MAX_BLOCKS = 20_000  # each costs the driver some time and memory
_OUTCOME = pa.schema(
    [
        *((name, pa.string()) for name in ("stop", "reason", "version", "key", "part")),
        *((name, pa.int64()) for name in ("index", "start_row", "num_rows", "checksum")),
    ]
)


@dataclass(frozen=True)
class Cluster:
    """What to ask of Ray.

    Attributes:
        num_actors: processes that embed; None takes as many as there are CPUs, or shares of GPUs.
        gpus_per_actor: 0.25 puts four on a GPU.
        address: of a running cluster, `auto` for the one of this machine; None starts one here.
        device: where each actor's encoder runs, `cpu` or `cuda`.
    """

    num_actors: int | None = None
    gpus_per_actor: float = 0.0
    address: str | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.num_actors is not None and self.num_actors < 1:
            raise ValueError(f"--num-actors {self.num_actors}: must be 1 or more")
        if self.gpus_per_actor < 0:
            raise ValueError(f"--gpus-per-actor {self.gpus_per_actor:g}: must be 0 or more")
        if self.gpus_per_actor > 1 and self.gpus_per_actor % 1:
            raise ValueError(
                f"--gpus-per-actor {self.gpus_per_actor:g}: Ray lends a share of one GPU, or whole "
                "ones. Give a whole number, or less than 1."
            )
        if self.device not in ("cpu", "cuda"):
            raise ValueError(
                f"--device {self.device} with --engine ray: an actor sees its own GPU only. "
                "Give cpu, or cuda without a number."
            )
        if (self.gpus_per_actor > 0) != (self.device != "cpu"):
            raise ValueError(
                f"--device {self.device} with --gpus-per-actor {self.gpus_per_actor:g}: "
                "an actor sees the GPUs that it asks for. Give both, or neither."
            )


@dataclass(frozen=True)
class _Work:
    """What an actor has to know."""

    encoder_name: str
    device: str
    level: Level
    parts: str
    making: Making
    keys: frozenset[str]  # of the audio whose vectors are there already
    space: Space = "backbone"


class RayEngine:
    """An engine for `embed_files`. Use it in a `with` block: what it started ends there.

    Args:
        cluster: what to ask of Ray. A Ray that this process has already started is used as it is.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._opened = contextlib.ExitStack()

    def __enter__(self) -> "RayEngine":
        with contextlib.ExitStack() as opened:
            opened.enter_context(quiet_ray())
            if not ray.is_initialized():
                opened.callback(ray.shutdown)
                start_ray(self.cluster.address)
            check_gpus(self.cluster.gpus_per_actor)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def embed_jobs(
        self,
        jobs: Sequence[Job],
        encoder: Encoder,
        level: Level,
        output: EmbeddingOutput | LinePrinter,
        fail: Callable[[Job, str], None],
        progress: SegmentProgress,
    ) -> int:
        """See `mulap.embedding.embed.Engine`; actors load the encoder by the encoder's name."""
        if isinstance(output, LinePrinter):
            raise ValueError("--engine ray needs a place that all machines see. Give --output.")
        if not jobs:
            return 0
        # Links stay: what they point to may have another path on each machine.
        folder = output.parts.absolute()
        for left in folder.glob("*.now"):  # of a run that was killed
            left.unlink()
        name = os.path.abspath(encoder.name) if os.path.isdir(encoder.name) else encoder.name
        making = making_of(encoder, level)
        at = (name, self.cluster.device, level, os.fspath(folder))
        work = _Work(*at, making, output.keys(), encoder.space)
        failed, num_embedded = [], 0
        for outcome in self._run(jobs, work):
            stop, reason = outcome.pop("stop"), outcome.pop("reason")
            job, version = jobs[outcome.pop("index")], outcome.pop("version")
            if stop:
                raise ValueError(f"{stop}. Mend it, and go on with --skip-existing.")
            if reason:
                failed.append((job, reason))
            else:
                if outcome["part"]:
                    output.store.add(Entry(**outcome))
                    num_embedded += 1
                    progress.count(outcome["num_rows"] if level == "segment" else 0)
                output.name(job.file, version, outcome["key"])
            progress.end_file()
        for job, reason in sorted(failed):  # they came in any order
            fail(job, reason)
        return num_embedded

    def write_shards(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Write shards, many at a time; each is yielded once it is there."""
        write: Any = ray.remote(write_shard)
        num_at_once, running = 2 * count_actors(gpus_per_actor=0), []
        for shard in shards:
            whole = shard._replace(path=shard.path.absolute(), parts=shard.parts.absolute())
            running.append(write.remote(whole))
            if len(running) >= num_at_once:
                done, running = ray.wait(running)
                yield get_result(done[0])
        for each in running:
            yield get_result(each)

    def _run(self, jobs: Sequence[Job], work: _Work) -> Iterator[dict[str, Any]]:
        """Yield what became of each file, in any order."""
        gpus = self.cluster.gpus_per_actor
        num_actors = self.cluster.num_actors or count_actors(gpus)
        # At least four blocks an actor, so that none is left waiting for long at the end.
        per_block = max(1, min(_FILES_PER_BLOCK, len(jobs) // (4 * num_actors)))
        num_blocks = min(-(-len(jobs) // per_block), _MAX_BLOCKS)
        items = [
            {"path": os.fsencode(os.path.abspath(job.path)), "file": job.file, "index": index}
            for index, job in enumerate(jobs)
        ]
        # Where GPUs are asked for, Ray wants a batch's size: the shortest block's, so that each
        # block still is a task of its own.
        dataset = ray.data.from_items(items, override_num_blocks=num_blocks).map_batches(
            _EmbedFiles,
            batch_size=max(1, len(items) // num_blocks) if gpus else None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(num_actors, num_blocks), max_tasks_in_flight_per_actor=2
            ),
            fn_constructor_args=[work],
            num_cpus=1,
            num_gpus=gpus or None,
        )
        dataset.context.enable_progress_bars = False
        try:
            for batch in dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                yield from batch.to_pylist()  # pyright: ignore[reportAttributeAccessIssue] (Arrow)
        except ray.exceptions.RaySystemError as error:
            raise ValueError(f"Ray: {last_line(error)}. Go on with --skip-existing.") from error


class _EmbedFiles:
    """An actor: an encoder, and a part of its own."""

    def __init__(self, work: _Work) -> None:
        self.work = work
        self.parts = Path(work.parts)
        self.now = self.parts / f"{socket.gethostname()}-{os.getpid()}.now"
        self.writer: VectorWriter | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        """Embed a block of files; return what became of each, or why the whole run must stop."""
        try:
            self.writer = self.writer or self._load()
            outcomes = [self._embed(self.writer, **row) for row in block.to_pylist()]
            self.writer.sync()  # before anything is said of it, so that other machines see it too
            self.now.unlink(missing_ok=True)
        except (ValueError, OSError, RuntimeError) as error:  # the last one is most of torch's
            reason = " ".join(str(error).split()) or type(error).__name__
            outcomes = [{"stop": f"{reason} (on {socket.gethostname()})", "index": 0}]
        return pa.Table.from_pylist(outcomes, _OUTCOME)

    def _load(self) -> VectorWriter:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the one CPU that Ray counts for it
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        if not self.parts.is_dir():
            raise ValueError(f"{self.parts}: is not there. All machines must share it.")
        self.deadly = self._count_deaths()
        self.now.touch()
        self.encoder = load_encoder(self.work.encoder_name, self.work.device, space=self.work.space)
        metadata = self.encoder.describe(self.work.level)
        if fingerprint(metadata) != fingerprint(self.work.making.metadata):
            raise ValueError(f"{self.work.encoder_name}: is another model than the driver has")
        size = self.work.making.embedding_size
        return VectorWriter(self.parts, size, fingerprint(metadata))

    def _count_deaths(self) -> set[str]:
        """Return the files that ended too many processes; see at which file each one was."""
        file_at: dict[Path, str] = {}
        for path in self.parts.glob("*.now"):
            with contextlib.suppress(FileNotFoundError):  # its process has just finished a block
                file_at[path] = path.read_text()
        here = f"{socket.gethostname()}-"
        loading = [
            path for path, file in file_at.items() if not file and path.name.startswith(here)
        ]
        if sum(not _is_alive(path) for path in loading) >= _DEATHS_WHILE_LOADING:
            raise ValueError("processes end while they load the encoder. Give them more memory.")
        num_deaths = Counter(file_at.values())
        return {file for file, count in num_deaths.items() if file and count >= DEATHS_OF_A_FILE}

    def _embed(self, writer: VectorWriter, path: bytes, file: str, index: int) -> dict[str, Any]:
        if file in self.deadly:
            reason = f"ended its process {DEATHS_OF_A_FILE} times (too little memory, or a crash)"
            return {"index": index, "reason": reason}
        self.now.write_text(file)
        looked = look(FileToEmbed(Path(os.fsdecode(path))))
        outcome = {"index": index, "version": looked.version, "key": looked.key}
        if looked.reason or looked.key in self.work.keys:
            return outcome | {"reason": looked.reason or None}
        has_gpu = self.work.device != "cpu"
        vectors = vectors_of_file(self.encoder, looked.path, self.work.level, has_gpu)
        try:
            return outcome | writer.add(looked.key, check_unchanged(looked, vectors))._asdict()
        except AudioError as error:
            return outcome | {"reason": error.reason}


def _is_alive(now: Path) -> bool:
    try:
        os.kill(int(now.stem.rpartition("-")[2]), 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
