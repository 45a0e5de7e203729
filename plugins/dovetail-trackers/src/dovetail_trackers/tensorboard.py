"""Record runs in event files for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dovetail import Outcome, Run
from dovetail_trackers.run_info import flat_settings, outcome_facts, require_installed, result_uris, without_repeats

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TensorBoardTracker:
    """Write metrics as scalars over optimizer updates, and settings, outcome and results as text.

    Settings and final metrics also go to TensorBoard's HPARAMS tab. ``tensorboard --logdir runs`` shows all runs below
    ``runs``.

    Args:
        log_dir: folder of the event files; a relative path is inside the run's folder.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
    """

    def __init__(self, log_dir: Path = Path("tensorboard")) -> None:
        require_installed("tensorboard", "tensorboard")
        self.log_dir = log_dir
        self._writer: SummaryWriter | None = None

    def dovetail_run_start(self, run: Run) -> None:
        """Open an event file and write the settings; a resumed run hides what it had logged after its checkpoint."""
        from torch.utils.tensorboard import SummaryWriter

        step = run.state.step
        self._writer = SummaryWriter(str(run.store.path / self.log_dir), purge_step=step + 1 if step else None)
        self._writer.add_text("settings", _table(flat_settings(run)), step)

    def dovetail_log(self, event: str, metrics: Mapping[str, float], step: int) -> None:
        """Write metrics."""
        if self._writer is not None:
            for name, value in without_repeats(event, metrics).items():
                self._writer.add_scalar(name, value, step)

    def dovetail_run_end(self, run: Run, outcome: Outcome) -> None:
        """Write outcome and results, and close the file."""
        writer, self._writer = self._writer, None
        if writer is None:
            return
        from torch.utils.tensorboard.summary import hparams

        with writer:
            writer.add_text("outcome", _table(outcome_facts(outcome)), run.state.step)
            writer.add_text("results", _table(result_uris(run)), run.state.step)
            final = {**outcome.metrics, **outcome.test_metrics}
            numbers = {name: value for name, value in final.items() if isinstance(value, int | float)}
            for summary in hparams(flat_settings(run), numbers):  # type: ignore[no-untyped-call]  # torch's
                writer._get_file_writer().add_summary(summary, run.state.step)  # type: ignore[no-untyped-call]  # noqa: SLF001 (add_hparams would start a second run)


def _table(values: Mapping[str, object]) -> str:
    rows = "".join(f"| {name} | {str(value).replace('|', chr(92) + '|')} |\n" for name, value in values.items())
    return f"| | |\n|---|---|\n{rows}"
