"""Progress is shown where it can be read, as it can be read there, and only if it was asked for."""

import io
import os
import pty
import re
import sys
import threading
from contextlib import redirect_stderr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import logging

from mulap import terminal
from mulap.terminal import (
    BYTES,
    Progress,
    clock_time,
    counted,
    draw_bars,
    say,
    shown,
    without_transformers_bars,
)


@pytest.fixture(autouse=True)
def lines_as_usual(monkeypatch):
    monkeypatch.setattr(terminal, "FIRST_LINE_SECONDS", 5.0)  # other tests are shown none


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def embed_for(seconds, clock, progress, files_per_second=10):
    for _ in range(seconds):
        clock.now += 1.0
        progress.advance(files_per_second)


def test_a_log_gets_a_line_after_five_seconds_then_every_thirty(capsys):
    clock = Clock()
    with shown(), Progress("embedding", 1_000, clock=clock) as progress:
        embed_for(66, clock, progress)
    assert capsys.readouterr().err.splitlines() == [
        "embedding: 50 of 1,000 files, 10.0 files/s, 01:35 left",
        "embedding: 350 of 1,000 files, 10.0 files/s, 01:05 left",
        "embedding: 650 of 1,000 files, 10.0 files/s, 00:35 left",
    ]


def test_the_rate_of_a_line_is_that_since_the_line_before(capsys):
    clock = Clock()
    with shown(), Progress("embedding", clock=clock) as progress:
        embed_for(5, clock, progress, 2)
        embed_for(30, clock, progress, 7)
    assert re.findall(r"([\d.]+) files/s", capsys.readouterr().err) == ["2.0", "7.0"]


def test_a_resumed_run_counts_what_is_done_but_not_in_its_rate(capsys):
    clock = Clock()
    with shown(), Progress("embedding", 1_000, done=900, clock=clock) as progress:
        embed_for(5, clock, progress)
    line = "embedding: 950 of 1,000 files, 10.0 files/s, 00:05 left\n"
    assert capsys.readouterr().err == line


def test_bytes_are_shown_as_mebibytes_and_a_note_stands_at_the_end(capsys):
    clock = Clock()
    with shown(), Progress("a.tar", unit=BYTES, clock=clock) as progress:
        clock.now = 10.0
        progress.update(20 * 2**20, 100 * 2**20, "second try")
    assert capsys.readouterr().err == "a.tar: 20 of 100 MiB, 2.0 MiB/s, 00:40 left, second try\n"


def test_a_short_call_prints_nothing_into_a_log(capsys):
    with shown(), Progress("embedding", 3) as progress:
        progress.advance(3)
    assert capsys.readouterr() == ("", "")


def test_library_calls_are_silent(capsys):
    clock = Clock()
    with Progress("embedding", 3, clock=clock) as progress:
        clock.now = 100.0
        progress.advance()
        say("a message")
    with shown(), shown(False):
        say("a message")
    assert capsys.readouterr() == ("", "")


def test_color_that_is_forced_puts_no_bar_into_a_log(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown(), Progress("embedding", 3) as progress:
        progress.advance()
    assert capsys.readouterr().err == ""


def draw_on_a_terminal(monkeypatch, draw):
    """Return what a terminal receives as standard error."""
    ours, theirs = pty.openpty()
    received = io.BytesIO()

    def read():
        try:
            while block := os.read(ours, 2**16):
                received.write(block)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(theirs, "w") as stderr, monkeypatch.context() as patched:
        patched.setattr(sys, "stderr", stderr)
        draw()  # on a terminal that says it has 0 columns, as some do
    reader.join()
    os.close(ours)
    return received.getvalue().decode()


def draw_three():
    with shown(), Progress("embedding", 3) as progress:
        progress.advance(2, "24 segments")
        say("a message")


def test_a_terminal_gets_a_bar_with_messages_above_it(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    received = draw_on_a_terminal(monkeypatch, draw_three)
    assert re.search(r"\rembedding: +0%\|.*\| 0/3 ", received)
    assert "\ra message\r\n" in received
    assert re.search(r"\rembedding: +67%\|.*\| 2/3 .*24 segments", received)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    assert draw_on_a_terminal(monkeypatch, draw_three) == "a message\r\n"


def test_a_notebook_gets_a_bar(notebook):
    with redirect_stderr(notebook):
        draw_three()
    assert re.search(r"\rembedding: +67%\|.*\| 2/3 ", notebook.getvalue())


def test_threads_share_a_count():
    progress = Progress("embedding")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda: [progress.advance() for _ in range(2_000)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert progress.done == 8_000


@pytest.mark.usefixtures("bars_of_transformers")
def test_bars_of_transformers_come_back_after_the_last_of_overlapping_loads():
    first, second = without_transformers_bars(), without_transformers_bars()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not logging.is_progress_bar_enabled()
    second.__exit__(None, None, None)
    assert logging.is_progress_bar_enabled()


def test_bars_of_transformers_stay_off_where_they_were_off():
    logging.disable_progress_bar()
    with without_transformers_bars():
        assert not logging.is_progress_bar_enabled()
    assert not logging.is_progress_bar_enabled()
    assert terminal._num_loading == 0


def test_a_number_agrees_with_its_noun():
    assert [counted(n, "file") for n in (0, 1, 2, 1_000)] == [
        "0 files",
        "1 file",
        "2 files",
        "1,000 files",
    ]
    assert counted(2, "process", "processes") == "2 processes"
    assert counted(1, "process", "processes") == "1 process"


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=200))
def test_bars_show_the_highest_and_fit_a_line(values):
    drawn = draw_bars(values, min(values), max(values), 40)
    assert len(drawn) <= 40
    assert set(drawn) <= set("▁▂▃▄▅▆▇█")
    if max(values) > min(values):
        assert "█" in drawn


def test_times_have_hours_from_an_hour_on():
    times = [clock_time(each) for each in (0, 72.9, 3599, 3723)]
    assert times == ["0:00", "1:12", "59:59", "1:02:03"]
