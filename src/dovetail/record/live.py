"""The live panel on a terminal. Imported only where there is one, since rich takes its time."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dovetail.record.progress import Progress, rest_in_words
from dovetail.record.words import clock, figure, rate, sparkline

#: How often it is drawn anew, per second.
_RATE: Final = 4
_SPARK: Final = 32


class LivePanel:
    """Progress, speed, losses with their course, and the best so far, redrawn in place."""

    def __init__(self, stream: TextIO, progress: Progress, *, width: int | None = None) -> None:
        """Draw ``progress`` on ``stream``; rich itself honours NO_COLOR and the width of the terminal."""
        self._progress = progress
        self._console = Console(file=stream, highlight=False, width=width)
        self._live = Live(
            console=self._console,
            get_renderable=self.draw,
            refresh_per_second=_RATE,
            transient=True,
            vertical_overflow="crop",
        )

    def start(self) -> None:
        """Begin to draw, from a thread of rich's own."""
        self._live.start()

    def stop(self) -> None:
        """Remove the panel."""
        self._live.stop()

    def print(self, line: str) -> None:
        """Write a line above the panel, where it stays."""
        text = Text(line)
        if line.endswith("  best"):
            text.stylize("green", len(line) - len("best"))
        self._console.print(text, soft_wrap=True)

    def draw(self) -> Group:
        """Return the panel as it is now."""
        progress = self._progress
        progress.look()
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        share = progress.step / progress.steps if progress.steps else 0.0
        speed = progress.speed()
        bar.add_row(
            Text(f"epoch {progress.epoch}/{progress.epochs}", style="bold"),
            ProgressBar(total=1.0, completed=share, complete_style="blue", finished_style="green"),
            Text.assemble(
                f"{100 * share:3.0f} %  step {progress.step:,}/{progress.steps:,}  ",
                (f"{rate(speed)} samples/s  " if speed else "", "cyan"),
                f"{clock(progress.elapsed())} ",
                (f"eta {clock(progress.left())}", "bold"),
            ),
        )
        lines = [_course(progress, "train_loss", "blue"), _course(progress, "val_loss", "yellow", progress.best())]
        rest = rest_in_words(progress.figures)
        if rest:
            lines.append(Text(f"  {rest}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(bar, *filter(None, lines))


def _course(progress: Progress, name: str, colour: str, best: str = "") -> Text | None:
    value = progress.figures.get(name)
    if value is None:
        return None
    return Text.assemble(
        f"  {name.replace('_', ' '):<10} {figure(value):<9} ",
        (sparkline(progress.course(name), _SPARK), colour),
        (f"  best {best}" if best else "", "green"),
        no_wrap=True,
        overflow="ellipsis",
    )
