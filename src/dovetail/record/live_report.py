"""The report of a run in progress."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig

_logger: Final = logging.getLogger("dovetail.run")


class LiveReport:
    """Writes ``report.html`` during the run and at its end.

    During the run it takes at most a twentieth of the time. A report that cannot be written is logged, and does not
    affect the run.
    """

    def __init__(self, config: RunConfig, folder: Path) -> None:
        """Write the report of ``folder`` every ``report.every`` epochs."""
        self._section, self._folder = config.report, folder
        self._next = 0.0

    def dovetail_epoch_end(self, epoch: int) -> None:
        """Write the report, if it is due."""
        if epoch % self._section.every == 0 and time.monotonic() >= self._next:
            began = time.monotonic()
            self.write()
            self._next = time.monotonic() + 20 * (time.monotonic() - began)

    def write(self) -> None:
        """Write the report, unless ``report.enabled`` is false."""
        if not self._section.enabled:
            return
        try:
            from dovetail.record.report.page import write_report

            write_report(self._folder, plots=self._section.plots)
        except Exception as error:
            _logger.warning("cannot write the report: %s: %s", type(error).__name__, error, exc_info=error)
