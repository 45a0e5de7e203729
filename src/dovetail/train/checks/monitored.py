"""The figures that rank checkpoints, stop a run or step a schedule: do they exist, and which direction is better?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from attrs import frozen

from dovetail.metrics.direction import Direction, direction
from dovetail.train.errors import MisfitError
from dovetail.train.figures import learning_rates, missing_metric, scalars

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.train.context import Run

Mode = Literal["auto", "min", "max"]

_VALIDATION: Final = "val_"
_TRAINING: Final = "train_"
#: What a run without a validation split monitors for its checkpoints: nothing.
_DEFAULT: Final = "val_loss"


def monitored_direction(
    config: RunConfig, metrics: Mapping[str, Any], figure: str, mode: Mode = "auto"
) -> Direction | None:
    """Return which direction of a monitored figure is better; None if nothing says it.

    Args:
        config: the run's config. ``checkpoint.mode`` holds for its own monitor wherever that is monitored.
        metrics: the built metrics, by name.
        figure: its name, such as ``val_accuracy``.
        mode: what the part that monitors it was given; anything but ``"auto"`` decides.
    """
    section = config.checkpoint
    for said in (mode, section.mode if figure == section.monitor else "auto"):
        if said != "auto":
            return said
    return direction(figure, metrics.values())


@frozen
class _Monitored:
    """A figure that a part of the run monitors."""

    #: The config path of the part.
    path: str
    figure: str
    #: The direction that the part acts by; None for a part with none.
    used: Direction | None = None
    #: Whether the run file says the direction.
    said: bool = False
    #: Whether the part reads the figures of whole epochs, not those of validations alone.
    of_epochs: bool = False

    def refuse(self, message: str, key: str = "monitor") -> MisfitError:
        """Return the error about one of the part's settings."""
        return MisfitError(f"{self.path}.{key}", message)


def _monitored(run: Run) -> Iterator[_Monitored]:
    section = run.config.checkpoint
    yield _Monitored("checkpoint", section.monitor, run.checkpoints.mode, section.mode != "auto", of_epochs=True)
    for phase in run.phases:
        schedule = phase.schedule
        if schedule is not None and schedule.reads_metrics:
            mode = getattr(phase.scheduler, "mode", None)
            yield _Monitored(schedule.path, schedule.monitor, mode, schedule.mode_said, of_epochs=True)
    for path, part in run.parts.named():
        figure, mode = getattr(part, "monitor", None), getattr(part, "mode", None)
        if isinstance(figure, str) and figure.startswith((_VALIDATION, _TRAINING)):
            used = monitored_direction(run.config, run.parts.metrics, figure) or "min" if mode == "auto" else None
            yield _Monitored(path, figure, used)


def check_validation_figures(run: Run, figures: Mapping[str, Any], owners: Mapping[str, Any], *, whole: bool) -> None:
    """Check everything that is monitored against the figures of a validation.

    Args:
        run: the run.
        figures: what a validation measures, by name; empty without a validation split.
        owners: the metric of each of these figures that a metric measures; the others are of the loss.
        whole: whether ``figures`` holds all, rather than those that one batch can give.

    Raises:
        MisfitError: a figure will not exist, or nothing says which direction is better; at the setting that names it.
    """
    known, validated = scalars(figures), run.parts.loaders.validation is not None
    rates = [*learning_rates(run.parts.optimizer), "samples_per_second"]
    for item in _monitored(run):
        if item.figure.startswith(_TRAINING):
            continue
        if item.figure.startswith(_VALIDATION) and not validated:
            if item.of_epochs and (item.path, item.figure) != ("checkpoint", _DEFAULT):
                raise item.refuse(
                    f"there is no validation split, so {item.figure} is never measured; "
                    'monitor = "train_loss" needs none'
                )
            continue
        missing = item.figure not in known and item.figure not in rates
        if missing and (whole or not item.figure.startswith(_VALIDATION)):
            raise item.refuse(missing_metric(item.figure, [*known, "train_loss"]))
        _check_direction(run, item, owners, of_loss=item.figure in known and item.figure not in owners)


def check_training_figures(run: Run, parts: Collection[str]) -> None:
    """Check what is monitored of the training figures, once the first batch has shown which there are.

    Args:
        run: the run.
        parts: the names of the parts of the loss.

    Raises:
        MisfitError: as for :func:`check_validation_figures`.
    """
    monitored = [item for item in _monitored(run) if item.figure.startswith(_TRAINING)]
    if not monitored:
        return
    of_loss = {f"{_TRAINING}{name}" for name in ("loss", *parts)}
    owners: dict[str, Any] = {}
    whole = True
    for metric in run.parts.train_metrics.values():
        try:
            owners |= {f"{_TRAINING}{name}": metric for name in scalars(metric.compute())}
        except Exception:  # noqa: BLE001 (one batch may be too little for it)
            whole = False
    for item in monitored:
        if whole and item.figure not in of_loss | owners.keys():
            raise item.refuse(missing_metric(item.figure, of_loss | owners.keys()))
        _check_direction(run, item, owners, of_loss=item.figure in of_loss - owners.keys())


def _check_direction(run: Run, item: _Monitored, owners: Mapping[str, Any], *, of_loss: bool) -> None:
    """Check that the part acts by the direction that the figure's own metric, the loss or its name says."""
    if item.used is None or item.said:
        return
    section = run.config.checkpoint
    if item.figure == section.monitor and section.mode != "auto":
        right: Direction | None = section.mode
    elif of_loss:
        right = "min"
    else:
        owner = owners.get(item.figure)
        own = getattr(owner, "higher_is_better", None)
        right = direction(item.figure, run.parts.metrics.values() if owner is None else [owner])
        if isinstance(own, bool):  # it is of this very figure, which was not known before the batch
            right = "max" if own else "min"
    if right is None:
        raise item.refuse(
            f'nothing says whether a lower or a higher {item.figure} is better: set mode = "min" or mode = "max", or '
            "give its metric an attribute higher_is_better",
            "mode",
        )
    if right != item.used:
        better = "lower" if right == "min" else "higher"
        raise item.refuse(f'a {better} {item.figure} is better: set mode = "{right}"', "mode")
