"""The gradient monitor: alerts, metrics and statistics of the gradients of every update."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from torch import Tensor, nn

from dovetail.monitor.health import GradientHealth, assess, describe_excess, measure
from dovetail.monitor.norms import NormStatistics
from dovetail.monitor.readings import DeviceStatistics, HostStatistics, Parameters, Transfer, from_state, to_state
from dovetail.ops import GradNorms
from dovetail.spec import AtLeast, MoreThan

if TYPE_CHECKING:
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.monitor")

#: Number of updates without an alarm to read in one copy.
_MAX_PENDING: Final = 64
_MIN_AND_MAX: Final = slice(2, None, 2)  # their places in GradNorms.summary()


class ExplodingGradientError(RuntimeError):
    """A gradient exceeds the critical threshold, and ``on_critical`` is ``"fail"``."""


class GradientMonitor:
    """Monitors the gradients of every update, before clipping.

    If an optimizer evaluates the loss several times within an update, as L-BFGS does, the first gradients count.

    In a run, the monitor measures in the pass over the gradients that clipping needs anyway, and reads the results an
    update later, so nothing waits for it. In your own loop, call :meth:`check_step` after every backward pass.

    In a run, it raises the alerts ``gradient_norm``, ``gradient_vanishing`` and ``gradient_nan``, and logs the event
    ``monitor`` with ``grad_norm_mean``, ``grad_norm_min`` and ``grad_norm_max`` (mean, smallest and largest norm of a
    parameter since the last event), ``grad_norm_total`` (the largest norm of all gradients together),
    ``grad_zeros`` (the fraction of gradient elements that are zero) and ``grad_nan_updates`` (the number of updates
    with a NaN or infinite gradient).

    Args:
        check_interval: warn, alert or end the run only every this many updates. Every update is measured.
        norm_threshold_warning: warn if a parameter's norm is above this.
        norm_threshold_critical: the gradients explode if a parameter's norm is above this.
        log_distribution: keep a histogram of the norms.
        norm_threshold_vanishing: the gradients vanish if a parameter's norm is below this.
        log_interval: log metrics every this many updates, and at the end of each epoch.
        log_layers: also log the largest norm of each parameter since the last event, as ``grad_norm.NAME``.
        on_critical: whether exploding gradients end the run, or only raise an alert. NaN does not count as exploding;
            ``training.nan_policy`` applies to it.
        cooldown: updates during which an alert is not repeated, unless a warning becomes critical.
        history: number of updates that :meth:`get_statistics` covers.

    Raises:
        ValueError: the thresholds are not in order, or an interval or ``history`` is below 1.
        ExplodingGradientError: while training: the gradients explode, and ``on_critical = "fail"``.
    """

    def __init__(
        self,
        check_interval: Annotated[int, AtLeast(1)] = 10,
        norm_threshold_warning: Annotated[float, MoreThan(0)] = 1.0,
        norm_threshold_critical: Annotated[float, MoreThan(0)] = 10.0,
        log_distribution: bool = True,  # noqa: FBT001, FBT002 (the documents' signature)
        *,
        norm_threshold_vanishing: Annotated[float, AtLeast(0)] = 1e-7,
        log_interval: Annotated[int, AtLeast(1)] = 100,
        log_layers: bool = False,
        on_critical: Literal["fail", "alert"] = "fail",
        cooldown: Annotated[int, AtLeast(0)] = 1000,
        history: Annotated[int, AtLeast(1)] = 10_000,
    ) -> None:
        least_one = {"check_interval": check_interval, "log_interval": log_interval, "history": history}
        for name, number in least_one.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if not norm_threshold_vanishing < norm_threshold_warning <= norm_threshold_critical:
            raise ValueError(
                "thresholds must be norm_threshold_vanishing < norm_threshold_warning <= norm_threshold_critical, got "
                f"{norm_threshold_vanishing:g}, {norm_threshold_warning:g}, {norm_threshold_critical:g}"
            )
        self.check_interval, self.log_interval, self.log_layers = check_interval, log_interval, log_layers
        self.on_critical, self.cooldown = on_critical, cooldown
        self._limits: Final = {
            "vanishing": norm_threshold_vanishing,
            "warning": norm_threshold_warning,
            "exploding": norm_threshold_critical,
        }
        self._norms = NormStatistics(history, distribution=log_distribution)
        self._run: Run | None = None
        self._names: dict[int, str] = {}
        # The parameters of the last update, and their names and sizes.
        self._known: tuple[Sequence[Tensor], Parameters] = ((), Parameters((), np.zeros(0, np.int64)))
        # Statistics that are still on the device, and copies on their way to the host, oldest first.
        self._pending: list[DeviceStatistics] = []
        self._transfers: list[Transfer] = []
        # Whether a pending update may need an alert. On the CPU that is known at once, because reading does not wait
        # there; updates without an alarm stay pending until there are many.
        self._alarming = False
        self._update = 0
        self._warned = False

    # --- in your own loop ---------------------------------------------------------------------------------------------

    def check_step(self, model: nn.Module) -> GradientHealth:
        """Return the health of the gradients of ``model`` after a backward pass. Waits for the device.

        Every ``check_interval`` calls, a problem is also logged as a warning.

        Raises:
            ValueError: no parameter has a gradient.
        """
        statistics = measure(model)
        self._norms.add(statistics)
        health = assess(statistics, **self._limits)
        self._update += 1
        if self._update % self.check_interval == 0 and health.state != "healthy":
            _logger.warning("check %d: %s", self._update, describe_excess(health, self._limits))
        return health

    def get_statistics(self) -> dict[str, Any]:
        """Return the statistics so far. In a run, they are complete at the end of an epoch.

        Returns:
            ``mean_norm_history``, ``max_norm_history``, ``min_norm_history`` and ``total_norm_history``, one number per
            update, for the last ``history`` updates; ``check_count``, the number of updates measured; ``layers``, by
            parameter, with the ``mean``, ``max`` and ``last`` norm and the fraction of ``zeros``; and, with
            ``log_distribution``, ``histogram``, the number of norms between consecutive ``histogram_edges``, with one
            more bin on either side.
        """
        return self._norms.statistics()

    # --- in a run -----------------------------------------------------------------------------------------------------

    def dovetail_run_start(self, run: Run) -> None:
        """Observe the gradients of the run."""
        self._run = run
        self._names = run.parts.parameter_names()
        run.gradients.observe(self._observe)

    def dovetail_epoch_end(self) -> None:
        """Log the metrics of the updates since the last event."""
        self._catch_up()
        if not self._norms.count and not self._warned:
            self._warned = True
            _logger.warning(
                "no gradients were measured: the trainer's update calls neither run.gradients.update() nor "
                "run.gradients.clip()"
            )
        self._log(self._update)

    def _observe(self, norms: GradNorms, parameters: Sequence[Tensor]) -> None:
        """Queue the statistics of an update, and process those of earlier updates that have arrived."""
        while self._transfers and self._transfers[0].arrived():
            self._process(self._transfers.pop(0))
        self._update = self._run.state.step + 1 if self._run is not None else self._update + 1
        self._pending.append(DeviceStatistics(norms, self._parameters_of(parameters), self._update))
        if not self._alarming:
            self._alarming = not norms.values.is_cpu or self._exceeds(*norms.summary()[_MIN_AND_MAX])
        acting = self._alarming and self._update % self.check_interval == 0
        if acting or self._update % self.log_interval == 0 or len(self._pending) >= _MAX_PENDING:
            self._send()

    def _parameters_of(self, parameters: Sequence[Tensor]) -> Parameters:
        known, described = self._known
        if parameters is known:  # usually the same list, otherwise often the same parameters
            return described
        if len(parameters) != len(known) or not all(map(is_, parameters, known)):
            names = tuple(self._names.get(id(parameter), "?") for parameter in parameters)
            described = Parameters(names, np.array([parameter.numel() for parameter in parameters], np.int64))
        self._known = parameters, described
        return described

    def _send(self) -> None:
        if self._pending:
            self._transfers.append(Transfer(self._pending))
            self._pending, self._alarming = [], False

    def _catch_up(self) -> None:
        """Process all statistics, waiting for the device."""
        self._send()
        while self._transfers:
            self._process(self._transfers.pop(0))

    def _process(self, transfer: Transfer) -> None:
        for some in transfer.wait():
            begin = 0
            for end, update in enumerate(some.updates, 1):
                if end == len(some) or update % self.log_interval == 0:
                    self._add(some[begin:end])
                    begin = end
                    if update % self.log_interval == 0:
                        self._log(update)

    def _add(self, some: HostStatistics) -> None:
        """Add the statistics of updates, and act on those that exceed a limit."""
        self._norms.add(some)
        if not self._exceeds(some.min.min(), some.max.max()):
            return
        for place, (least, most) in enumerate(zip(some.min.tolist(), some.max.tolist(), strict=True)):
            if self._exceeds(least, most):
                self._act(assess(some[place : place + 1], **self._limits), some.updates[place])

    def _exceeds(self, least: float, most: float) -> bool:
        """Return whether norms from ``least`` to ``most`` exceed a limit; NaN does."""
        return not (least >= self._limits["vanishing"] and most <= self._limits["warning"])

    def _act(self, health: GradientHealth, update: int) -> None:
        run = self._run
        # With half precision, gradients overflow now and then; the loss scaler then lowers the loss scale.
        if run is None or health.state == "healthy" or (health.state == "nan" and run.parts.scaler is not None):
            return
        message = f"update {update}: {describe_excess(health, self._limits)}"
        kind = {"vanishing": "gradient_vanishing", "nan": "gradient_nan"}.get(health.state, "gradient_norm")
        severity: Literal["warning", "critical"] = "critical" if health.state in {"exploding", "nan"} else "warning"
        details: dict[str, Any] = {"max_norm": health.max_norm, "min_norm": health.min_norm, "parameter": health.worst}
        run.alert(kind, message, severity=severity, cooldown=self.cooldown, update=update, **details)
        if health.state == "exploding" and self.on_critical == "fail":
            raise ExplodingGradientError(f"{message}. Try a lower optimizer.lr, a warm-up, or on_critical = 'alert'")

    def _log(self, update: int) -> None:
        if self._run is None or not self._norms.fresh:
            return
        metrics, largest = self._norms.take()
        if self.log_layers:
            metrics |= {f"grad_norm.{name}": value for name, value in largest.items()}
        self._run.log("monitor", metrics, step=update)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs to log the same metrics; unread statistics stay unread."""
        return {
            "norms": self._norms.state_dict(),
            "sent": [to_state(transfer.entries) for transfer in self._transfers],
            "pending": to_state(self._pending),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state."""
        self._norms.load_state_dict(state["norms"])
        self._transfers = [Transfer(from_state(entries)) for entries in state["sent"]]
        self._pending, self._alarming = from_state(state["pending"]), True
