"""One file of hours and folders of very many: memory that does not grow, time that grows in line.

make hostile    10 hours, and 100,000 files
make test       1 hour, and 1,000 files
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile as sf
from hostile.kit import IS_CAMPAIGN, MIB, Ended, Template

SHORT_HOURS, LONG_HOURS = (0.25, 10.0) if IS_CAMPAIGN else (0.1, 1.0)
NUM_FEW, NUM_MANY = (2_000, 100_000) if IS_CAMPAIGN else (100, 1_000)
RATE_HZ = 16_000
# A table holds 20 bytes a file of names and the like in memory; a vector of `mel` takes 1.9 KB.
MOST_BYTES_A_FILE = 4_096


def _write_long(path: Path, hours: float) -> None:
    """Write a repeated chord; FLAC makes little of it."""
    time = np.arange(60 * RATE_HZ) / RATE_HZ
    minute = (0.3 * np.sin(2 * np.pi * 220 * time) * np.sin(time)).astype(np.float32)
    with sf.SoundFile(path, "w", RATE_HZ, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(60 * hours)):
            file.write(minute)


def _embed(template: Template, folder: Path, name: str) -> tuple[Ended, pq.ParquetFile]:
    argv = ("embed", name, "--model", "mel", "-o", f"{name}.parquet")
    ended = template.mulap(*argv, cwd=folder).wait(3_600)
    assert ended.code == 0, ended.err
    return ended, pq.ParquetFile(folder / f"{name}.parquet")


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_file_of_hours_takes_no_more_memory_than_one_of_minutes(template, tmp_path):
    peaks, rows = [], []
    for name, hours in (("short", SHORT_HOURS), ("long", LONG_HOURS)):
        (tmp_path / name).mkdir()
        _write_long(tmp_path / name / "song.flac", hours)
        ended, table = _embed(template, tmp_path, name)
        peaks.append(ended.peak_bytes)
        rows.append(table.metadata.num_rows)
    assert rows == [round(1_200 * hours) for hours in (SHORT_HOURS, LONG_HOURS)]
    print(
        f"{LONG_HOURS:g} h: {peaks[1] / MIB:.0f} MiB, {SHORT_HOURS:g} h: {peaks[0] / MIB:.0f} MiB"
    )
    assert peaks[1] < peaks[0] + 64 * MIB


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_very_many_files_take_little_memory_each_and_leave_no_litter(template, tmp_path):
    sound = tmp_path / "sound.wav"
    sf.write(sound, 0.1 * np.random.default_rng(0).standard_normal(800), RATE_HZ)
    peaks = []
    for name, num_files in (("few", NUM_FEW), ("many", NUM_MANY)):
        for index in range(num_files):
            folder = tmp_path / name / f"{index // 1_000:03}"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(sound, folder / f"{index}.wav")
        ended, table = _embed(template, tmp_path, name)
        peaks.append(ended.peak_bytes)
        assert table.metadata.num_rows == num_files
        files = table.read(["file"])["file"].to_pylist()
        assert files == sorted(files, key=Path)
        assert len(set(files)) == num_files
    print(f"{NUM_MANY:,} files: {peaks[1] / MIB:.0f} MiB, {NUM_FEW:,}: {peaks[0] / MIB:.0f} MiB")
    assert peaks[1] < peaks[0] + 64 * MIB + MOST_BYTES_A_FILE * NUM_MANY
    assert sorted(os.listdir(tmp_path)) == sorted(
        ["sound.wav", "few", "few.parquet", "many", "many.parquet"]
    )
