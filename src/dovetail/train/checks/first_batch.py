"""Checks of the first batch: parts that do not fit are bad input, reported with their place; bugs stay failures.

Each part is watched on its own, so that the message names it. Later steps run without these checks.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import torch
from attrs import evolve
from torch import nn

from dovetail.checkpoint.sharded import local_shard
from dovetail.train.checks.monitored import check_training_figures, check_validation_figures
from dovetail.train.checks.own_generators import check_generators
from dovetail.train.checks.transform_splits import check_transforms
from dovetail.train.errors import MisfitError, known_error
from dovetail.train.evaluate import evaluate
from dovetail.train.forward import Forward
from dovetail.train.hardware import autocasting
from dovetail.train.seeds import preserve_rng

if TYPE_CHECKING:
    from types import FrameType

    from torch import Tensor

    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.models.output import ModelOutput
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer

#: The type of the alert for a first update whose gradients are all 0.
ZERO_GRADIENT: Final = "zero_gradient"
#: Torch and Dovetail refuse tensors with these. An out-of-memory error is a subclass, and is not a refusal.
_ABOUT_TENSORS: Final = (RuntimeError, NotImplementedError, IndexError)
_ADVICE: Final = {
    "model": "its options, or [transforms], make inputs and model fit each other",
    "loss": "choose a loss for such outputs and targets, or a model or data that suit it",
    "metrics": "choose a metric of such outputs and targets, or leave it out",
}
_KNOWN: Final = {"dovetail", "torch", *sys.stdlib_module_names}
_OF_THE_DEVICE: Final = ("CUDA", "cuDNN", "CUBLAS", "HIP")


@contextlib.contextmanager
def watch_parts(run: Run) -> Iterator[Run]:
    """Return a view of ``run`` whose model, loss and metrics report what they do not accept, with its shapes.

    Raises:
        MisfitError: a part refused its input. Other errors are raised unchanged: a bug in a part is not bad input.
    """
    parts = evolve(
        run.parts,
        metrics={name: _WatchedMetric(run, name, metric) for name, metric in run.parts.metrics.items()},
        train_metrics={name: _WatchedMetric(run, name, metric) for name, metric in run.parts.train_metrics.items()},
    )
    yield evolve(
        run, parts=parts, forward=partial(_forward, run, run.forward), criterion=partial(_loss, run, run.criterion)
    )


def try_evaluation(trainer: StandardTrainer, run: Run) -> dict[str, Any]:
    """Evaluate one batch of the validation split, else of the test split, before an epoch is spent on training.

    Training is unaffected: generators and metrics keep their state, and no hook is called but that of alerts, which
    say what is suspect about the run's parts.

    Returns:
        The figures; empty if there is no such split, or the run was asked to end at once.

    Raises:
        MisfitError: a part does not accept the batch, or a monitored metric is not among the figures.
    """
    check_generators(run)
    check_transforms(run)
    loaders = run.parts.loaders
    loader = loaders.validation or loaders.test
    if loader is None:
        check_validation_figures(run, {}, {}, whole=True)
        return {}
    with watch_parts(run) as watched:
        figures = evaluate(trainer, watched, islice(loader, 1), "val", silent=True)
        metrics = watched.parts.metrics
    if figures is None:
        return {}
    owners = {figure: metric for name, metric in metrics.items() for figure in figures if metric.measures(figure, name)}
    check_validation_figures(run, figures, owners, whole=not any(metric.incomplete for metric in metrics.values()))
    return figures


class GradientCheck:
    """Stands in for the gradients in the first update: they must reach the model, and should not all be 0."""

    def __init__(self, trainer: StandardTrainer, run: Run) -> None:
        """Check the gradients of ``run``."""
        self._trainer, self._run, self._gradients = trainer, run, run.gradients

    @property
    def norm(self) -> Tensor | float | None:
        """The norm of the gradients of the update, if it was computed."""
        return self._gradients.norm

    def compute(self, *arguments: Any) -> tuple[Tensor, list[LossResult]]:
        """Compute the gradients of an update.

        Raises:
            MisfitError: no parameter of the model has a gradient, a monitored training figure will not exist, or the
                last batch of an epoch is too small.
        """
        try:
            loss, results = self._gradients.compute(*arguments)
        except RuntimeError as error:
            if "does not require grad" not in str(error):
                raise
            raise self._misfit() from error
        trained = [parameter for parameter in self._run.parts.model.parameters() if parameter.requires_grad]
        gradients = [local_shard(parameter.grad) for parameter in trained if parameter.grad is not None]
        if trained and not gradients:
            raise self._misfit()
        check_training_figures(self._run, {name for result in results for name in result.parts})
        if trained and not any(self._run.group.all_gather(any(bool(gradient.any()) for gradient in gradients))):
            self._warn()
        _try_last_batch(self._trainer, self._run)
        return loss, list(results)

    def _culprit(self) -> tuple[str, str]:
        """Return the config path and name of the part that computes the loss."""
        config = self._run.config
        return (
            ("trainer", config.trainer.name) if self._trainer.overrides("compute_loss") else ("loss", config.loss.name)
        )

    def _warn(self) -> None:
        path, name = self._culprit()
        self._run.alert(
            ZERO_GRADIENT,
            f"the gradient of {path} '{name}' is 0 for every weight of the model in the first update. Unless that is "
            "intended, something multiplies it by 0 or is saturated, and nothing is trained",
            cooldown=math.inf,
        )

    def _misfit(self) -> MisfitError:
        path, name = self._culprit()
        return MisfitError(
            path,
            f"no gradient of '{name}' reaches the model, so nothing would be trained: compute its total from the "
            "model's outputs with torch operations alone, without detach(), item(), numpy() or argmax()",
        )


def _try_last_batch(trainer: StandardTrainer, run: Run) -> None:
    """Compute the loss of the last batch of an epoch if it has one sample, which a batch norm may refuse.

    Generators, buffers and the state of loss and trainer are left as they were.

    Raises:
        MisfitError: the model refused it.
    """
    loader = run.parts.loaders.train
    single = loader.num_samples % loader.batch_size == 1 and len(loader) > 1 and run.group.size == 1
    if not single or trainer.overrides("batches") or not any(map(_normalises_batches, run.parts.model.modules())):
        return
    compute = autocasting(trainer.compute_loss, run.config.training.precision, run.device)
    batch = trainer.prepare_batch(run, loader.reread(1, loader.indices(1, len(loader) - 1)))
    try:
        with preserve_rng(), _preserved(run):
            compute(run, batch)
    except ValueError as error:
        known = known_error(error, run.config)
        if known is None:
            raise
        raise MisfitError("loader.batch_size", str(known)) from error


def _normalises_batches(layer: nn.Module) -> bool:
    return layer.training and isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 (no public name)


@contextlib.contextmanager
def _preserved(run: Run) -> Iterator[None]:
    """Restore the buffers of model and loss, and the state of a loss and a trainer that have one."""
    buffers = [buffer for module in run.parts.modules().values() for buffer in module.buffers()]
    copies = [buffer.clone() for buffer in buffers]
    keepers = [
        part
        for part in (run.parts.loss, run.parts.trainer)
        if not isinstance(part, nn.Module) and hasattr(part, "state_dict") and hasattr(part, "load_state_dict")
    ]
    states = [copy.deepcopy(keeper.state_dict()) for keeper in keepers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in zip(buffers, copies, strict=True):
                buffer.copy_(before)
        for keeper, state in zip(keepers, states, strict=True):
            keeper.load_state_dict(state)


class _WatchedMetric:
    """A metric that reports what it does not accept."""

    def __init__(self, run: Run, name: str, metric: Any) -> None:
        self._run, self._path, self._metric = run, f"metrics.{name}", metric
        #: Whether one batch is too little for a figure, for instance because a metric needs samples of two classes.
        self.incomplete = False
        self._figures: Collection[str] = ()

    def measures(self, figure: str, name: str) -> bool:
        """Return whether a figure of a validation is this metric's, whose table is named ``name``."""
        return any(figure in {f"val_{own}", f"val_{name}_{own}"} for own in self._figures)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metric, name)

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Add a batch."""
        try:
            self._metric.update(outputs, batch)
        except Exception as error:
            _raise_misfit(self._run, self._path, error, outputs=outputs.logits, targets=batch.get("targets"))
            raise

    def compute(self) -> Mapping[str, Any]:
        """Return the figures, if one batch is enough for them."""
        try:
            figures: Mapping[str, Any] = self._metric.compute()
        except Exception:  # noqa: BLE001 (the whole split may be enough, so this is no mistake)
            self.incomplete = True
            return {}
        self._figures = tuple(figures)
        return figures


def _forward(run: Run, forward: Callable[[Batch], ModelOutput], batch: Batch) -> ModelOutput:
    try:
        return forward(batch)
    except Exception as error:
        _raise_misfit(run, "model", _eager_error(run, batch) or error, inputs=batch.get("inputs"))
        raise


def _eager_error(run: Run, batch: Batch) -> Exception | None:
    """Return the error of a compiled model in eager mode: the compiler's own error says little about the input."""
    if run.config.hardware.compile:
        try:
            Forward(run.parts.model)(batch)
        except Exception as error:  # noqa: BLE001 (any error is examined like an eager model's)
            return error
    return None


def _loss(run: Run, criterion: Callable[..., LossResult], outputs: ModelOutput, batch: Batch) -> LossResult:
    try:
        return criterion(outputs, batch)
    except Exception as error:
        _raise_misfit(run, "loss", error, outputs=outputs.logits, targets=batch.get("targets"))
        raise


def _raise_misfit(run: Run, path: str, error: Exception, **given: Any) -> None:
    """Raise a misfit if ``error`` says that a part refused its input; otherwise return.

    Raises:
        MisfitError: the part at ``path`` does not accept ``given``.
    """
    walked = list(traceback.walk_tb(error.__traceback__))
    frames = [frame for frame, _ in walked]
    # Frames outside of torch and Dovetail are the part's own code, or a library that it uses.
    foreign = [(frame, line) for frame, line in walked if not _is_known(frame)]
    if type(error) is TypeError:
        refused = not foreign
    else:  # a ValueError is how a part refuses its input
        refused = isinstance(error, ValueError) or (type(error) in _ABOUT_TENSORS and _is_known(frames[-1]))
    text = " ".join(str(error).split()) or type(error).__name__
    if not refused or text.startswith(_OF_THE_DEVICE) or known_error(error, run.config) is not None:
        return
    kind, _, name = path.partition(".")
    part = run.config.metrics[name] if name else getattr(run.config, kind)
    shapes = ", ".join(_shapes(given))
    layer = _layer(run, frames) if kind == "model" else ""
    caller = "".join(f" (called in {frame.f_code.co_filename}:{line})" for frame, line in foreign[-1:])
    message = f"'{part.name}' does not accept {shapes}{layer}: {text}{caller}; {_ADVICE[kind]}"
    raise MisfitError(path, message) from error


def _is_known(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _KNOWN


def _layer(run: Run, frames: Sequence[FrameType]) -> str:
    """Return the layer of the model that refused its input, in words."""
    names = {id(module): name for name, module in run.parts.model.named_modules() if name}
    called = [caller for frame in frames if id(caller := frame.f_locals.get("self")) in names]
    if not called:
        return ""
    layer: Any = called[-1]
    return f", in its layer {names[id(layer)]} = {type(layer).__name__}({layer.extra_repr()})"


def _shapes(given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        if isinstance(value, torch.Tensor):
            yield f"{name} of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        elif isinstance(value, Mapping):
            yield from _shapes({f"{name}.{key}": inner for key, inner in value.items()})
        elif value is not None:
            yield f"{name} of type {type(value).__name__}"
