"""Hooks as a plain object, under the names that other libraries have."""

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
    """Every documented method."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_training_start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def on_epoch_start(self, epoch: int) -> None:
        """Note it."""
        self.calls.append(("epoch", epoch))

    def on_batch_end(self, batch_idx: int, loss: float) -> None:
        """Note it."""
        assert type(loss) is float
        self.calls.append(batch_idx)

    def on_validation_end(self, metrics: dict[str, float]) -> None:
        """Note it."""
        self.calls.append(sorted(metrics))

    def on_epoch_end(self, epoch: int, metrics: dict[str, float]) -> None:
        """Note it."""
        assert {"train_loss", "val_loss"} <= metrics.keys()
        self.calls.append(("end", epoch))

    def on_training_end(self) -> None:
        """Note it."""
        self.calls.append("end")


class Others:
    """The other names, with fewer arguments, and a state."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_train_begin(self) -> None:
        """Note it."""
        self.calls.append("start")

    def on_epoch_begin(self) -> None:
        """Note it."""
        self.calls.append("epoch")

    def on_batch_begin(self, batch_idx: int) -> None:
        """Note it."""
        self.calls.append(batch_idx)

    def on_epoch_end(self, epoch: int) -> None:
        """Note it."""
        self.calls.append(epoch)

    def on_train_end(self, *others: object) -> None:
        """Note it."""
        self.calls.append(others)


def test_plain_objects_are_callbacks_and_listeners(tmp_path: Path) -> None:
    """As a callback of the config, and given to a run from Python."""
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


def test_the_best_loss_is_a_loss_whatever_is_monitored(tmp_path: Path) -> None:
    """It is that of the best epoch; also where a run that is done is resumed, and its record tells."""
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


def test_hot_hooks_are_there_only_where_they_are_wanted() -> None:
    """An object without batch methods costs a step nothing."""

    class Quiet:
        def on_epoch_end(self, epoch: int) -> None:
            """Do nothing."""

    hooks = Hooks([("callbacks.quiet", plain_hooks(Quiet()))])

    assert hooks.dovetail_epoch_end
    assert not hooks.dovetail_batch_start
    assert not hooks.dovetail_batch_end


def test_hooks_of_our_own_are_left_alone() -> None:
    """So is an object without any."""

    class Own:
        def dovetail_epoch_end(self) -> None:
            """Do nothing."""

        def on_epoch_end(self) -> None:
            """Do nothing."""

    own, nothing = Own(), object()

    assert plain_hooks(own) is own
    assert plain_hooks(nothing) is nothing


class Misspelt:
    """Has a method that nobody calls."""

    def on_epoch_ended(self, epoch: int) -> None:
        """Do nothing."""


class HalfMisspelt(Misspelt):
    """Has one that is called, too."""

    def on_train_end(self) -> None:
        """Do nothing."""

    def on_fit_setup(self) -> None:
        """Do nothing, as another library would have it."""


def test_a_class_in_place_of_its_object_is_told_so() -> None:
    """Its methods would be called without an object."""
    with pytest.raises(PluginError, match=r"HalfMisspelt is a class; pass an object: HalfM.*\(\)"):
        plain_hooks(HalfMisspelt)


def test_a_misspelt_method_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    """An object of which nothing is called is refused; where something is, what is nearly called is told of."""
    with pytest.raises(PluginError, match="'on_epoch_ended', which is never called; did you mean 'on_epoch_end'"):
        plain_hooks(Misspelt())

    assert plain_hooks(HalfMisspelt()) is not None
    (told,) = caplog.records
    assert "HalfMisspelt has the method 'on_epoch_ended'" in told.getMessage()
