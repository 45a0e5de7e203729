"""The kinds of component: what each must satisfy, and what the run provides to its factory.

This is the one table of kinds. A factory's options come from TOML; *provided* parameters come from the run,
by name. A provided value fills a parameter only when that has no default and the run file does not set it, or
when the parameter is marked :class:`Provided`: what the run file says always wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from attrs import field, frozen

from dovetail.spec.protocols import (
    Callback,
    Collator,
    Command,
    Dataset,
    Loss,
    Metric,
    Model,
    Optimizer,
    Profile,
    Scheduler,
    Storage,
    Tracker,
    Trainer,
    Transform,
)


class Provided:
    """Marks a parameter whose default gives way to the run's value: ``Annotated[int | None, Provided] = None``."""


@frozen
class Reserved:
    """A key that a kind keeps for itself: taken off a part's table before its factory sees the options."""

    #: The type of its value, or ``"module:attribute"`` of it where naming it here would import from an upper
    #: floor.
    annotation: Any
    default: Any
    help: str


@frozen
class Kind:
    """One kind of component."""

    name: str
    #: The registration hook that offers components of this kind.
    hook: str
    #: The protocol that marks a parameter as being a component of this kind.
    protocol: type
    #: What a built part must satisfy, in words.
    must: str
    #: Parameters that the run can fill, by name.
    provides: Mapping[str, str] = field(factory=dict)
    #: The provided ones that are live objects, which no TOML value can stand for.
    objects: frozenset[str] = frozenset()
    #: A method, or another attribute, with which a part may do without those of the protocol.
    instead: str | None = None
    #: Keys kept by the kind, by name.
    reserved: Mapping[str, Reserved] = field(factory=dict)


_TARGETS: Final = {
    "num_classes": "number of classes of the dataset, None for regression",
    "num_outputs": "numbers to predict for a sample in a regression, None for classes",
    "class_counts": "training samples per class, a list of integers",
}

_KINDS: Final = (
    Kind(
        "dataset",
        "dovetail_datasets",
        Dataset,
        "a map-style dataset, or Splits; may say num_classes, num_outputs, class_names, targets, input_shape, "
        "column(name)",
        provides={"seed": "the run's seed"},
        instead="train",
        reserved={
            "split": Reserved(
                "dovetail.data.splits:SplitOptions", None, "how to divide the samples into train, validation and test"
            )
        },
    ),
    Kind(
        "transform",
        "dovetail_transforms",
        Transform,
        "(sample) -> sample; may draw from the global generators, which are seeded per sample. With the trait batched: "
        "transform_batch(batch, draws) -> batch, on the device, its numbers from draws",
        provides={"num_classes": _TARGETS["num_classes"]},
        instead="transform_batch",
        reserved={
            "splits": Reserved(
                list[Literal["train", "validation", "test"]] | None,
                None,
                "the splits whose samples it transforms; by default train, or all with the trait every_split",
            )
        },
    ),
    Kind(
        "collator",
        "dovetail_collators",
        Collator,
        "(samples: list) -> Batch, keeping every sample",
        provides={"num_classes": _TARGETS["num_classes"]},
    ),
    Kind(
        "model",
        "dovetail_models",
        Model,
        "a torch.nn.Module",
        provides={
            "num_classes": _TARGETS["num_classes"],
            "num_outputs": _TARGETS["num_outputs"],
            "input_shape": "shape of one sample's input, a tuple of integers",
            "vocab_size": "number of distinct tokens of the dataset",
        },
    ),
    Kind(
        "loss",
        "dovetail_losses",
        Loss,
        "(outputs: ModelOutput, batch: Batch) -> LossResult, or a plain (input, target) -> scalar, which is adapted",
        provides=_TARGETS,
    ),
    Kind(
        "optimizer",
        "dovetail_optimizers",
        Optimizer,
        "a torch.optim.Optimizer",
        provides={"params": "the trainable parameters of model and loss, or their groups"},
        objects=frozenset({"params"}),
        reserved={
            "no_decay": Reserved(
                list[str],
                (),
                "parameters whose name contains one of these words, and biases and norms, get weight_decay = 0",
            )
        },
    ),
    Kind(
        "scheduler",
        "dovetail_schedulers",
        Scheduler,
        "a torch LRScheduler; steps once per update, or per epoch where it has the trait per_epoch",
        provides={
            "optimizer": "the built optimizer",
            "total_steps": "how often it steps in the whole run: updates, or epochs where it steps per epoch",
            "steps_per_epoch": "how often it steps in an epoch: updates, or 1",
            "max_epochs": "epochs in the whole run",
        },
        objects=frozenset({"optimizer"}),
        reserved={
            "every": Reserved(
                Literal["update", "epoch"] | None, None, "when it steps; by default what the scheduler says of itself"
            ),
            "monitor": Reserved(str | None, None, "the metric that a plateau scheduler reads"),
        },
    ),
    Kind(
        "metric",
        "dovetail_metrics",
        Metric,
        "update(outputs, batch), compute() -> figures by name, reset()",
        provides={"num_classes": _TARGETS["num_classes"]},
    ),
    Kind(
        "callback",
        "dovetail_callbacks",
        Callback,
        "an object with some of the lifecycle hooks",
    ),
    Kind(
        "tracker",
        "dovetail_trackers",
        Tracker,
        "an object with some of the lifecycle hooks, which records the run",
        reserved={
            "every": Reserved(
                "dovetail.config.schema:Cadence",
                None,
                "when it gets figures: of every so many epochs, or { steps = … } for training figures every so many "
                "updates; by default all that are logged",
            )
        },
    ),
    Kind("trainer", "dovetail_trainers", Trainer, "fit(run) -> Outcome"),
    Kind(
        "storage",
        "dovetail_storage_backends",
        Storage,
        "put (all or nothing), open, list, delete, exists",
    ),
    Kind("profile", "dovetail_profiles", Profile, "() -> a layer of config as plain tables"),
    Kind("command", "dovetail_commands", Command, "a click command"),
)

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _KINDS}
_BY_PROTOCOL: Final = {kind.protocol: kind.name for kind in _KINDS}


def component_kind(annotation: Any) -> str | None:
    """Return the kind whose protocol ``annotation`` is, or None for any other type."""
    return _BY_PROTOCOL.get(annotation) if isinstance(annotation, type) else None
