"""The live panel on a terminal. Only imported if there is a terminal, because importing rich takes time."""

from __future__ import annotations

from typing import Final, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dovetail.record.formatting import format_clock, format_metrics, format_number, format_rate, sparkline
from dovetail.record.progress import Progress

_REFRESHES_PER_SECOND: Final = 4
_SPARKLINE_WIDTH: Final = 32


class LivePanel:
    """Progress, throughput, losses with sparklines, and the best metric so far, redrawn in place."""

    def __init__(self, stream: TextIO, progress: Progress, *, width: int | None = None) -> None:
        """Draw ``progress`` on ``stream``; rich honours NO_COLOR and the width of the terminal."""
        self._progress = progress
        self._console = Console(file=stream, highlight=False, width=width)
        self._live = Live(
            console=self._console,
            get_renderable=self.draw,
            refresh_per_second=_REFRESHES_PER_SECOND,
            transient=True,
            vertical_overflow="crop",
        )

    def start(self) -> None:
        """Start drawing, in a thread of rich."""
        self._live.start()

    def stop(self) -> None:
        """Remove the panel."""
        self._live.stop()

    def print(self, line: str) -> None:
        """Print a line above the panel, where it stays."""
        text = Text(line)
        if line.endswith("  best"):
            text.stylize("green", len(line) - len("best"))
        self._console.print(text, soft_wrap=True)

    def draw(self) -> Group:
        """Return the panel's current content."""
        progress = self._progress
        progress.sample_counters()
        bar = Table.grid(padding=(0, 2), expand=True)
        bar.add_column(no_wrap=True)
        bar.add_column(ratio=1)
        bar.add_column(no_wrap=True)
        done = progress.step / progress.steps if progress.steps else 0.0
        throughput = progress.throughput()
        bar.add_row(
            Text(f"epoch {progress.epoch}/{progress.epochs}", style="bold"),
            ProgressBar(total=1.0, completed=done, complete_style="blue", finished_style="green"),
            Text.assemble(
                f"{100 * done:3.0f} %  step {progress.step:,}/{progress.steps:,}  ",
                (f"{format_rate(throughput)} samples/s  " if throughput else "", "cyan"),
                f"{format_clock(progress.elapsed())} ",
                (f"eta {format_clock(progress.seconds_left())}", "bold"),
            ),
        )
        lines = [_loss(progress, "train_loss", "blue"), _loss(progress, "val_loss", "yellow", progress.best())]
        others = _other_metrics(progress)
        if others:
            lines.append(Text(f"  {others}", style="dim", no_wrap=True, overflow="ellipsis"))
        return Group(bar, *filter(None, lines))


def _loss(progress: Progress, name: str, colour: str, best: str = "") -> Text | None:
    value = progress.metrics.get(name)
    if value is None:
        return None
    return Text.assemble(
        f"  {name.replace('_', ' '):<10} {format_number(value):<9} ",
        (sparkline(progress.history(name), _SPARKLINE_WIDTH), colour),
        (f"  best {best}" if best else "", "green"),
        no_wrap=True,
        overflow="ellipsis",
    )


def _other_metrics(progress: Progress) -> str:
    """Return the validation metrics other than the loss, and the learning rate."""
    values = progress.metrics
    others = {name: value for name, value in values.items() if name.startswith("val_") and name != "val_loss"}
    shown = [format_metrics(others)] if others else []
    if "lr" in values:
        shown.append(f"lr {format_number(values['lr'])}")
    return "  ".join(shown)
