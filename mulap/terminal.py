"""Progress of long calls: a bar in terminals and notebooks, a line now and then in logs.

Library calls are silent unless asked: `with terminal.shown():` around any call shows its progress.
The commands of `mulap` do so, except with --quiet. Everything goes to standard error.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from tqdm import tqdm

FIRST_LINE_SECONDS = 5.0
LINE_SECONDS = 30.0
BYTES = "bytes"
_MIB = 2**20
_BARS = "▁▂▃▄▅▆▇█"
# A context variable, so that threads of one program may differ.
_is_shown: ContextVar[bool] = ContextVar("is_shown", default=False)
_loading = threading.Lock()
_num_loading, _had_bars = 0, False


@contextmanager
def shown(is_shown: bool = True) -> Iterator[None]:
    """Show the progress of what is called inside the `with` block; False keeps it silent."""
    token = _is_shown.set(is_shown)
    try:
        yield
    finally:
        _is_shown.reset(token)


def is_shown() -> bool:
    """Return whether progress is shown here."""
    return _is_shown.get()


def say(text: str) -> None:
    """Print a line above the bar, if progress is shown."""
    if _is_shown.get():
        warn(text)


def warn(text: str) -> None:
    """Print a line above the bar, also with --quiet."""
    tqdm.write(text, file=sys.stderr)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Write a number with its noun: 1 file, 2 files, 1,000 files.

    `plural` is for several, if it is not the noun and an s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def clock_time(seconds: float) -> str:
    """Write seconds as m:ss, and from an hour on as h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def draw_bars(values: Sequence[float], low: float, high: float, most: int) -> str:
    """Draw values between two ends as bars, at most so many: several then share the highest."""
    size = -(-len(values) // most)
    some = [max(values[start : start + size]) for start in range(0, len(values), size)]
    scale = len(_BARS) / (high - low) if high > low else 0.0
    return "".join(_BARS[min(int((value - low) * scale), len(_BARS) - 1)] for value in some)


class Progress:
    """Counts what a long call has done, and shows it if progress is shown. Threads may share one.

    Use it as a context manager, or call `close` at the end.

    Args:
        doing: what is being done, such as `embedding`.
        total: how much there is to do; None if unknown.
        unit: what is counted, in the plural; `BYTES` are shown as MiB.
        done: how much an earlier run has done.
        clock: returns the time in seconds, for the lines.
    """

    def __init__(
        self,
        doing: str,
        total: int | None = None,
        unit: str = "files",
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.doing, self.total, self.unit, self.done = doing, total, unit, done
        self._clock, self.lock, self._note = clock, threading.Lock(), ""
        self._bar: Any = None
        self._has_lines = _is_shown.get() and not _can_draw()
        if _is_shown.get() and not self._has_lines:
            self._bar = _Bar(desc=doing, total=total, initial=done, **_options(unit))
        self._last_time, self._last_done = clock(), done
        self._next_time = self._last_time + FIRST_LINE_SECONDS

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count more as done; `note` replaces what stands at the end of the line."""
        with self.lock:
            self._show(self.done + count, note)

    def update(self, done: int, total: int | None = None, note: str | None = None) -> None:
        """Set how much is done, and how much there is, if that has become known."""
        with self.lock:
            self.total = self.total if total is None else total
            self._show(done, note)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.refresh()  # tqdm draws ten times a second at most
            self._bar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def _show(self, done: int, note: str | None) -> None:
        step, self.done = done - self.done, done
        self._note = self._note if note is None else note
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(self._note, refresh=False)
            self._bar.update(step)
        elif self._has_lines and (now := self._clock()) >= self._next_time:
            say(self._line(now))
            self._last_time, self._last_done = now, done
            self._next_time = now + LINE_SECONDS

    def _line(self, now: float) -> str:
        """Describe the state, with the rate since the last line."""
        scale, unit = (_MIB, "MiB") if self.unit == BYTES else (1, self.unit)
        rate = (self.done - self._last_done) / max(now - self._last_time, 1e-9)
        of_total = "" if self.total is None else f" of {self.total // scale:,}"
        parts = [f"{self.doing}: {self.done // scale:,}{of_total} {unit}"]
        if rate > 0:
            parts.append(f"{rate / scale:,.1f} {unit}/s")
        if rate > 0 and self.total is not None:
            parts.append(f"{tqdm.format_interval((self.total - self.done) / rate)} left")
        return ", ".join([*parts, *filter(None, [self._note])])


class _Bar(tqdm):
    monitor_interval = 0  # no thread of tqdm's: commands fork


def _can_draw() -> bool:
    """Return whether standard error can redraw a line: a terminal or the output of a notebook."""
    if type(sys.stderr).__module__.startswith("ipykernel."):
        return True
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _options(unit: str) -> dict[str, Any]:
    """Return tqdm's settings."""
    options = {"unit": f" {unit}", "miniters": 0, "leave": False}
    if unit == BYTES:
        options |= {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:  # a notebook: tqdm has a width of its own for it
        return options
    # Some terminals say that they have no columns and no rows.
    return options | ({"dynamic_ncols": True} if columns else {"ncols": 80, "nrows": 24})


@contextmanager
def without_transformers_bars() -> Iterator[None]:
    """Hide the bars that transformers shows while it loads and saves models.

    transformers has one switch for the whole process, so overlapping calls are counted.
    """
    global _num_loading, _had_bars
    logging = sys.modules["transformers.utils.logging"]  # there, as the caller uses it
    with _loading:
        if not _num_loading:
            _had_bars = logging.is_progress_bar_enabled()
            logging.disable_progress_bar()
        _num_loading += 1
    try:
        yield
    finally:
        with _loading:
            _num_loading -= 1
            if _had_bars and not _num_loading:
                logging.enable_progress_bar()
