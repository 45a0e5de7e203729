"""Watches the gradients of every update: alerts, figures and statistics."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from torch import Tensor, nn

from dovetail.monitor.health import GradientHealth, health_of, measured, said
from dovetail.monitor.norms import Norms
from dovetail.monitor.readings import Entry, Measured, Reading, Rows, entries, kept
from dovetail.ops import GradNorms
from dovetail.spec.limits import AtLeast, MoreThan

if TYPE_CHECKING:
    from dovetail.train.context import Run

_logger: Final = logging.getLogger("dovetail.monitor")

#: So many updates with nothing to act on are read together.
_MANY: Final = 64
_LEAST_AND_MOST: Final = slice(2, None, 2)  # their places in GradNorms.summary()


class ExplodingGradientError(RuntimeError):
    """A gradient is larger than a run is to bear."""


class GradientMonitor:
    """Watches the gradients of every update, before they are clipped.

    Of an optimizer that asks for the loss several times within an update, such as L-BFGS, these are the first ones.

    In a run it measures in the same pass over the gradients that clipping needs, reads the figures an update later, and
    waits for nothing. In a loop written by hand call :meth:`check_step` after every backward pass.

    In a run it alerts (``gradient_norm``, ``gradient_vanishing``, ``gradient_nan``) and logs the event ``monitor``
    with ``grad_norm_mean``, ``grad_norm_min``, ``grad_norm_max``, ``grad_norm_total`` (the mean, the least and the
    largest of the parameters' norms, and the largest of all gradients together, since the last time) and
    ``grad_zeros``, the share of gradient elements that are zero.

    Args:
        check_interval: act every so many updates: warn, alert or end the run. Every update is measured.
        norm_threshold_warning: warn when a parameter's norm is above.
        norm_threshold_critical: the gradients explode when a parameter's norm is above.
        log_distribution: keep a histogram of the norms.
        norm_threshold_vanishing: the gradients vanish when a parameter's norm is below.
        log_interval: log figures every so many updates, and at the end of epochs.
        log_layers: log the norm of every parameter too, as ``grad_norm.NAME``, the largest since the last time.
        on_critical: whether gradients that explode end the run, or give an alert alone. NaN is not exploding: what is
            done about it says ``training.nan_policy``.
        cooldown: updates in which an alert is not told again, unless a warning becomes critical.
        history: so many of the last updates are kept for :meth:`get_statistics`.

    Raises:
        ValueError: the thresholds are not in order, or a number is below 1.
        ExplodingGradientError: while training: gradients explode, and ``on_critical = "fail"``.
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
            message = (
                "norm_threshold_vanishing < norm_threshold_warning <= norm_threshold_critical does not hold: "
                f"{norm_threshold_vanishing:g}, {norm_threshold_warning:g}, {norm_threshold_critical:g}"
            )
            raise ValueError(message)
        self.check_interval, self.log_interval, self.log_layers = check_interval, log_interval, log_layers
        self.on_critical, self.cooldown = on_critical, cooldown
        self._limits: Final = {
            "vanishing": norm_threshold_vanishing,
            "warning": norm_threshold_warning,
            "exploding": norm_threshold_critical,
        }
        self._norms = Norms(history, distribution=log_distribution)
        self._run: Run | None = None
        self._names: dict[int, str] = {}
        # The parameters of the last update, and what its rows stand for.
        self._rows: tuple[Sequence[Tensor], Rows] = ((), Rows((), np.zeros(0, np.int64)))
        # Measured but not yet sent to the host, and what is on its way there, the oldest first.
        self._pending: list[Entry] = []
        self._readings: list[Reading] = []
        # Whether among the pending may be one to act on. On the CPU that is known at once, since looking waits for
        # nothing there; others are put off until they are many.
        self._alarming = False
        self._update = 0
        self._warned = False

    # --- in a loop written by hand ------------------------------------------------------------------------------------

    def check_step(self, model: nn.Module) -> GradientHealth:
        """Measure the gradients of ``model`` after a backward pass, and return how they are. Waits for the device.

        Every ``check_interval`` calls what is wrong is also said in the log.

        Raises:
            ValueError: no parameter has a gradient.
        """
        found = measured(model)
        self._norms.add(found)
        health = health_of(found, **self._limits)
        self._update += 1
        if self._update % self.check_interval == 0 and health.state != "healthy":
            _logger.warning("check %d: %s", self._update, said(health, self._limits))
        return health

    def get_statistics(self) -> dict[str, Any]:
        """Return what was seen so far; in a run what has been read, which is all at the end of an epoch.

        Returns:
            ``mean_norm_history``, ``max_norm_history``, ``min_norm_history`` and ``total_norm_history``, a number an
            update, of the last ``history`` updates; ``check_count``, how many updates were measured in all;
            ``layers``, by parameter, with the ``mean``, ``max`` and ``last`` norm and the share of ``zeros``; and,
            with ``log_distribution``, ``histogram``, how many norms lay between any two of ``histogram_edges``, with
            one more bin on either side.
        """
        return self._norms.statistics()

    # --- in a run -----------------------------------------------------------------------------------------------------

    def dovetail_run_start(self, run: Run) -> None:
        """Ask to be told of the gradients."""
        self._run = run
        self._names = run.parts.parameter_names()
        run.gradients.observe(self._observe)

    def dovetail_epoch_end(self) -> None:
        """Log what there is."""
        self._catch_up()
        if not self._norms.count and not self._warned:
            self._warned = True
            _logger.warning(
                "no gradients were measured: a trainer whose update does not call run.gradients.update() or "
                "run.gradients.clip() shows none"
            )
        self._log(self._update)

    def _observe(self, found: GradNorms, parameters: Sequence[Tensor]) -> None:
        """Take in the gradients of an update, and look at those before it that have arrived."""
        while self._readings and self._readings[0].arrived():
            self._look(self._readings.pop(0))
        self._update = self._run.state.step + 1 if self._run is not None else self._update + 1
        self._pending.append(Entry(found, self._rows_of(parameters), self._update))
        if not self._alarming:
            self._alarming = not found.values.is_cpu or self._crosses(*found.summary()[_LEAST_AND_MOST])
        acting = self._alarming and self._update % self.check_interval == 0
        if acting or self._update % self.log_interval == 0 or len(self._pending) >= _MANY:
            self._send()

    def _rows_of(self, parameters: Sequence[Tensor]) -> Rows:
        known, rows = self._rows
        if parameters is known:  # mostly the very same list, and else often the same parameters
            return rows
        if len(parameters) != len(known) or not all(map(is_, parameters, known)):
            names = tuple(self._names.get(id(one), "?") for one in parameters)
            rows = Rows(names, np.array([one.numel() for one in parameters], np.int64))
        self._rows = parameters, rows
        return rows

    def _send(self) -> None:
        if self._pending:
            self._readings.append(Reading(self._pending))
            self._pending, self._alarming = [], False

    def _catch_up(self) -> None:
        """Read everything that was measured, waiting for the device."""
        self._send()
        while self._readings:
            self._look(self._readings.pop(0))

    def _look(self, reading: Reading) -> None:
        for some in reading.numbers():
            begin = 0
            for end, update in enumerate(some.updates, 1):
                if end == len(some) or update % self.log_interval == 0:
                    self._take(some[begin:end])
                    begin = end
                    if update % self.log_interval == 0:
                        self._log(update)

    def _take(self, some: Measured) -> None:
        """Add updates up, and act on those that are not as they should be."""
        self._norms.add(some)
        if not self._crosses(some.least.min(), some.most.max()):
            return
        for place, (least, most) in enumerate(zip(some.least.tolist(), some.most.tolist(), strict=True)):
            if self._crosses(least, most):
                self._act(health_of(some[place : place + 1], **self._limits), some.updates[place])

    def _crosses(self, least: float, most: float) -> bool:
        """Say whether norms between these two cross a limit; a NaN does."""
        return not (least >= self._limits["vanishing"] and most <= self._limits["warning"])

    def _act(self, health: GradientHealth, update: int) -> None:
        run = self._run
        # Half precision gets gradients that are too large now and then, and finds a scale at which it does not.
        if run is None or health.state == "healthy" or (health.state == "nan" and run.parts.scaler is not None):
            return
        message = f"update {update}: {said(health, self._limits)}"
        kind = {"vanishing": "gradient_vanishing", "nan": "gradient_nan"}.get(health.state, "gradient_norm")
        severity: Literal["warning", "critical"] = "critical" if health.state in {"exploding", "nan"} else "warning"
        figures: dict[str, Any] = {"max_norm": health.max_norm, "min_norm": health.min_norm, "parameter": health.worst}
        run.alert(kind, message, severity=severity, cooldown=self.cooldown, update=update, **figures)
        if health.state == "exploding" and self.on_critical == "fail":
            raise ExplodingGradientError(f"{message}. Try a lower optimizer.lr or a warm-up, or on_critical = 'alert'")

    def _log(self, update: int) -> None:
        if self._run is None or not self._norms.fresh:
            return
        figures, largest = self._norms.take()
        if self.log_layers:
            figures |= {f"grad_norm.{name}": value for name, value in largest.items()}
        self._run.log("monitor", figures, step=update)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to log the same figures; what is not read yet stays so."""
        return {
            "norms": self._norms.state_dict(),
            "sent": [kept(one.entries) for one in self._readings],
            "pending": kept(self._pending),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._norms.load_state_dict(state["norms"])
        self._readings = [Reading(entries(one)) for one in state["sent"]]
        self._pending, self._alarming = entries(state["pending"]), True
