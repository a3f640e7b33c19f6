"""What a recipe says while it works: lines and live progress on standard error, the same lines in the run's log."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
_SECONDS_AVERAGED = 900.0  # a validation or a save now and then must not decide how much time is left
_SECONDS_BETWEEN_LINES = 30.0


class Bar:
    """One progress bar; where there is no terminal to draw it on, a line every half minute instead."""

    def __init__(self, progress: Progress, task: TaskID, title: str) -> None:
        self._progress, self._task, self._title = progress, task, title
        self._said = time.monotonic()

    def show(self, done: float, words: str = "", seconds_left: float | None = None) -> None:
        """Set how much is done, in the units of the bar's total, and the words behind it; `seconds_left` where one knows better than the bar."""
        if seconds_left is not None:
            words = f"left {timedelta(seconds=round(seconds_left))} {words}"
        self._progress.update(self._task, completed=done, words=words)
        console = self._progress.console
        if not console.is_terminal and time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            task = self._progress.tasks[self._task]
            known = task.time_remaining if seconds_left is None else None
            left = f", {known:,.0f} s left" if known is not None else ""
            console.print(f"{self._title}: {task.percentage:.0f} %{left} {words}", markup=False, soft_wrap=True)


class Voice:
    """Speaks on standard error; `log` is a file that keeps every line, `quiet` leaves the screen alone."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.log: Path | None = None

    def say(self, line: str, *, style: str | None = None) -> None:
        """Print one line and keep it in the log."""
        self.console.print(line, style=style, markup=False, soft_wrap=True)
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    @contextmanager
    def bar(self, title: str, total: float | None, *, own_time_left: bool = False) -> Iterator[Bar]:
        """Show a live bar with elapsed and remaining time while the block runs; without its own guess where `show` is told what is left."""
        guess = () if own_time_left else (TextColumn("left"), TimeRemainingColumn())
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=28), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), *guess, TextColumn("{task.fields[words]}"),
        )  # fmt: skip
        drawn = Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal,
            speed_estimate_period=_SECONDS_AVERAGED,
        )  # fmt: skip
        with drawn as progress:
            yield Bar(progress, progress.add_task(title, total=total, words=""), title)

    def track(self, title: str, items: Iterable[Item], total: int | None) -> Iterator[Item]:
        """Yield the items while a bar counts them."""
        with self.bar(title, total) as bar:
            for done, item in enumerate(items, start=1):
                yield item
                if done % 32 == 0 or done == total:
                    bar.show(done)
