"""The first batch of a run: what does not fit there is bad input, and said so; what is broken stays a failure.

Part by part, so that the message names it. Afterwards nothing stands between a step and its parts.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import torch

from dovetail.train.best import check_monitored
from dovetail.train.errors import MisfitError, explained
from dovetail.train.evaluate import evaluate
from dovetail.train.forward import Forward

if TYPE_CHECKING:
    from types import FrameType

    from dovetail.data.batch import Batch
    from dovetail.losses.result import LossResult
    from dovetail.models.output import ModelOutput
    from dovetail.train.context import Run
    from dovetail.train.trainer import StandardTrainer

#: Torch and we refuse tensors with these. An out-of-memory error is none of them, though a kind of one.
_ABOUT_TENSORS: Final = (RuntimeError, NotImplementedError, IndexError)
_ADVICE: Final = {
    "model": "its options, or [transforms], make inputs and model fit each other",
    "loss": "choose a loss for such outputs and targets, or a model or data that suit it",
    "metrics": "choose a metric of such outputs and targets, or leave it out",
}
_KNOWN: Final = {"dovetail", "torch", *sys.stdlib_module_names}
_OF_THE_DEVICE: Final = ("CUDA", "cuDNN", "CUBLAS", "HIP")


@contextlib.contextmanager
def trying(run: Run) -> Iterator[None]:
    """While this lasts, say what the model, the loss or a metric does not take, with its shapes.

    Raises:
        MisfitError: one refused what it was given. Whatever else goes wrong is raised as it is: an error in the code
            of a part is no bad input.
    """
    forward, criterion, parts = run.forward, run.criterion, run.parts
    metrics, of_training = parts.metrics, parts.train_metrics
    run.forward, run.criterion = partial(_forward, run, forward), partial(_loss, run, criterion)
    parts.metrics = {name: _Tried(run, name, one) for name, one in metrics.items()}
    parts.train_metrics = {name: _Tried(run, name, one) for name, one in of_training.items()}
    try:
        yield
    finally:
        run.forward, run.criterion = forward, criterion
        parts.metrics, parts.train_metrics = metrics, of_training


def try_evaluation(trainer: StandardTrainer, run: Run) -> dict[str, Any]:
    """Evaluate one batch of validation, else of the test, so that what does not fit does not cost an epoch.

    Training does not notice: no generator moves, no metric keeps what it saw, no part is told.

    Returns:
        The figures; empty where there is no such split, or the run was told to end at once.

    Raises:
        MisfitError: something does not fit, or what the run goes by is not among the figures.
    """
    loaders = run.parts.loaders
    loader = loaders.validation or loaders.test
    if loader is None:
        return {}
    with trying(run):
        metrics = run.parts.metrics
        figures = evaluate(trainer, run, islice(loader, 1), "val", told=False)
        silent = any(one.silent for one in metrics.values())
    if figures is None:
        return {}
    if loaders.validation is not None and not silent:
        check_monitored(run, figures)
    return figures


class _Tried:
    """A metric that says what it does not take."""

    def __init__(self, run: Run, name: str, metric: Any) -> None:
        self._run, self._path, self._metric = run, f"metrics.{name}", metric
        #: Whether one batch was not enough for a figure, as where it takes samples of two classes.
        self.silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._metric, name)

    def update(self, outputs: ModelOutput, batch: Batch) -> None:
        """Take a batch in."""
        try:
            self._metric.update(outputs, batch)
        except Exception as error:
            _refuse(self._run, self._path, error, outputs=outputs.logits, targets=batch.get("targets"))
            raise

    def compute(self) -> Mapping[str, Any]:
        """Return the figures, if one batch is enough for them."""
        try:
            figures: Mapping[str, Any] = self._metric.compute()
        except Exception:  # noqa: BLE001 (the whole of the split may be enough: then it is no mistake)
            self.silent = True
            return {}
        return figures


def _forward(run: Run, forward: Callable[[Batch], ModelOutput], batch: Batch) -> ModelOutput:
    try:
        return forward(batch)
    except Exception as error:
        _refuse(run, "model", _uncompiled(run, batch) or error, inputs=batch.get("inputs"))
        raise


def _uncompiled(run: Run, batch: Batch) -> Exception | None:
    """Return what a model says itself where it is compiled: a compiler's error is one of the compiler's."""
    if run.config.hardware.compile:
        try:
            Forward(run.parts.model)(batch)
        except Exception as error:  # noqa: BLE001 (whatever it is: it is looked at as any other)
            return error
    return None


def _loss(run: Run, criterion: Callable[..., LossResult], outputs: ModelOutput, batch: Batch) -> LossResult:
    try:
        return criterion(outputs, batch)
    except Exception as error:
        _refuse(run, "loss", error, outputs=outputs.logits, targets=batch.get("targets"))
        raise


def _refuse(run: Run, path: str, error: Exception, **given: Any) -> None:
    """Say that a part does not take what it was given, if that is what an error says.

    Raises:
        MisfitError: it does.
    """
    walked = list(traceback.walk_tb(error.__traceback__))
    frames = [frame for frame, _ in walked]
    # What is neither torch's nor ours is a part's own code, or what that builds on.
    foreign = [(frame, line) for frame, line in walked if not _is_known(frame)]
    if type(error) is TypeError:
        refused = not foreign
    else:  # a ValueError is the way for a part to refuse
        refused = isinstance(error, ValueError) or (type(error) in _ABOUT_TENSORS and _is_known(frames[-1]))
    text = " ".join(str(error).split()) or type(error).__name__
    if not refused or text.startswith(_OF_THE_DEVICE) or explained(error, run.config) is not error:
        return
    kind, _, name = path.partition(".")
    part = run.config.metrics[name] if name else getattr(run.config, kind)
    shapes = ", ".join(_shapes(given))
    at = _layer(run, frames) if kind == "model" else ""
    under = "".join(f" (called in {frame.f_code.co_filename}:{line})" for frame, line in foreign[-1:])
    message = f"'{part.name}' does not take {shapes}{at}: {text}{under}; {_ADVICE[kind]}"
    raise MisfitError(path, message) from error


def _is_known(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _KNOWN


def _layer(run: Run, frames: list[FrameType]) -> str:
    """Return which layer of the model refused, and what it is."""
    names = {id(one): name for name, one in run.parts.model.named_modules() if name}
    called = [one for frame in frames if id(one := frame.f_locals.get("self")) in names]
    if not called:
        return ""
    layer: Any = called[-1]
    return f", in its layer {names[id(layer)]} = {type(layer).__name__}({layer.extra_repr()})"


def _shapes(given: Mapping[str, Any]) -> Iterator[str]:
    for name, value in given.items():
        if isinstance(value, torch.Tensor):
            yield f"{name} of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
        elif isinstance(value, Mapping):
            yield from _shapes({f"{name}.{key}": one for key, one in value.items()})
        elif value is not None:
            yield f"{name} of type {type(value).__name__}"
