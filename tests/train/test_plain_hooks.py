"""Callbacks with the method names of other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dovetail.kernel.component import PluginError
from dovetail.main import resume, run
from dovetail.train.hooks import Hooks
from dovetail.train.plain_hooks import plain_hooks
from small_runs import small


class Documented:
    """An object with every documented method."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_training_start(self) -> None:
        """Note the call."""
        self.calls.append("start")

    def on_epoch_start(self, epoch: int) -> None:
        """Note the call."""
        self.calls.append(("epoch", epoch))

    def on_batch_end(self, batch_idx: int, loss: float) -> None:
        """Note the call."""
        assert type(loss) is float
        self.calls.append(batch_idx)

    def on_validation_end(self, metrics: dict[str, float]) -> None:
        """Note the call."""
        self.calls.append(sorted(metrics))

    def on_epoch_end(self, epoch: int, metrics: dict[str, float]) -> None:
        """Note the call."""
        assert {"train_loss", "val_loss"} <= metrics.keys()
        self.calls.append(("end", epoch))

    def on_training_end(self) -> None:
        """Note the call."""
        self.calls.append("end")


class Others:
    """An object with the aliases, fewer arguments, and a state."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_train_begin(self) -> None:
        """Note the call."""
        self.calls.append("start")

    def on_epoch_begin(self) -> None:
        """Note the call."""
        self.calls.append("epoch")

    def on_batch_begin(self, batch_idx: int) -> None:
        """Note the call."""
        self.calls.append(batch_idx)

    def on_epoch_end(self, epoch: int) -> None:
        """Note the call."""
        self.calls.append(epoch)

    def on_train_end(self, *others: object) -> None:
        """Note the call."""
        self.calls.append(others)


def test_plain_objects_are_callbacks_and_listeners(tmp_path: Path) -> None:
    """Both in the config and as an argument of ``run``."""
    documented, others = Documented(), Others()
    config = small(
        tmp_path,
        loader={"batch_size": 50},
        training={"max_epochs": 1, "test": False},
        callbacks={"documented": documented},
    )
    outcome = run(config, listeners=[others]).check()

    assert documented.calls == ["start", ("epoch", 1), 0, 1, ["val_accuracy", "val_loss"], ("end", 1), "end"]
    assert others.calls == ["start", "epoch", 0, 1, 1, ()]
    assert outcome.results() == {
        "best_epoch": 1,
        "best_val_loss": outcome.metrics["val_loss"],
        "final_metrics": outcome.metrics,
        "total_time": outcome.total_time,
    }


def test_best_val_loss_is_a_loss_whatever_is_monitored(tmp_path: Path) -> None:
    """It is the loss of the best epoch; a finished run that is resumed reads it from its record."""
    losses: list[tuple[float, float]] = []

    class Seen:
        def on_validation_end(self, metrics: dict[str, float]) -> None:
            losses.append((-metrics["val_accuracy"], metrics["val_loss"]))

    config = small(tmp_path, checkpoint={"monitor": "val_accuracy"}, training={"max_epochs": 4})
    outcome = run(config, listeners=[Seen()]).check()
    results = outcome.results()

    assert results["best_val_loss"] == losses[results["best_epoch"] - 1][1]
    assert outcome.best_metric == -min(losses)[0]
    assert outcome.folder is not None
    assert resume(outcome.folder, config).results()["best_val_loss"] == results["best_val_loss"]


def test_only_implemented_batch_hooks_exist() -> None:
    """An object without batch methods costs a step nothing."""

    class Quiet:
        def on_epoch_end(self, epoch: int) -> None:
            """Do nothing."""

    hooks = Hooks([("callbacks.quiet", plain_hooks(Quiet()))])

    assert hooks.dovetail_epoch_end
    assert not hooks.dovetail_batch_start
    assert not hooks.dovetail_batch_end


def test_an_object_with_dovetail_hooks_is_returned_unchanged() -> None:
    """So is an object without hooks."""

    class Own:
        def dovetail_epoch_end(self) -> None:
            """Do nothing."""

        def on_epoch_end(self) -> None:
            """Do nothing."""

    own, nothing = Own(), object()

    assert plain_hooks(own) is own
    assert plain_hooks(nothing) is nothing


class Misspelt:
    """An object whose methods are never called."""

    def on_epoch_ended(self, epoch: int) -> None:
        """Do nothing."""


class HalfMisspelt(Misspelt):
    """An object with a method that is called and one that is not."""

    def on_train_end(self) -> None:
        """Do nothing."""

    def on_fit_setup(self) -> None:
        """Do nothing; another library has this method."""


def test_a_class_in_place_of_an_object_is_refused() -> None:
    """Its methods would be called without ``self``."""
    with pytest.raises(PluginError, match=r"HalfMisspelt is a class; pass an object: HalfM.*\(\)"):
        plain_hooks(HalfMisspelt)


def test_a_misspelt_method_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """An object without any known method is refused; otherwise a method with a similar name is a warning."""
    with pytest.raises(PluginError, match="'on_epoch_ended', which is never called; did you mean 'on_epoch_end'"):
        plain_hooks(Misspelt())

    assert plain_hooks(HalfMisspelt()) is not None
    (message,) = caplog.records
    assert "HalfMisspelt has the method 'on_epoch_ended'" in message.getMessage()
