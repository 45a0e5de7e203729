"""The table of kinds of component: what each must satisfy, and what the run provides to its factory.

A factory's options come from TOML; *provided* parameters come from the run, by name. The run provides a parameter only
if it has no default and the run file does not set it, or if it is marked :class:`~dovetail.kernel.kind.Provided`: the
run file always wins.
"""

from __future__ import annotations

from typing import Final, Literal

from dovetail.kernel.kind import Kind, Kinds, Reserved
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

_TARGETS: Final = {
    "num_classes": "number of classes of the dataset, None for regression",
    "num_outputs": "numbers to predict per sample in a regression, None for classes",
    "class_counts": "training samples per class, a list of integers",
}

#: Every kind, by name.
KINDS: Final = Kinds(
    [
        Kind(
            "dataset",
            "dovetail_datasets",
            Dataset,
            "a map-style dataset, or Splits; may define num_classes, num_outputs, class_names, targets, input_shape, "
            "column(name)",
            provides={"seed": "the run's seed"},
            instead="train",
            reserved={
                "split": Reserved(
                    "dovetail.data.splits:SplitOptions",
                    None,
                    "how to divide the samples into train, validation and test",
                )
            },
        ),
        Kind(
            "transform",
            "dovetail_transforms",
            Transform,
            "(sample) -> sample; may draw from the global generators, which are seeded per sample. "
            "With the trait batched: "
            "transform_batch(batch, draws) -> batch, on the device, with random numbers from draws",
            provides={"num_classes": _TARGETS["num_classes"]},
            instead="transform_batch",
            reserved={
                "splits": Reserved(
                    list[Literal["train", "validation", "test"]] | None,
                    None,
                    "the splits whose samples it transforms; by default all with the trait every_split or with "
                    "deterministic = True, else train",
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
            "(outputs: ModelOutput, batch: Batch) -> LossResult, "
            "or a plain (input, target) -> scalar, which is adapted",
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
                "total_steps": "its steps in the whole run: updates, or epochs if it steps per epoch",
                "steps_per_epoch": "its steps in an epoch: updates, or 1",
                "max_epochs": "epochs in the whole run",
                "mode": 'which values of the monitored figure are better, "min" or "max"',
            },
            objects=frozenset({"optimizer"}),
            reserved={
                "every": Reserved(
                    Literal["update", "epoch"] | None,
                    None,
                    "when it steps; by default as the scheduler's traits say",
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
                    "dovetail.config.schema:EveryOption",
                    None,
                    "how often it gets figures: a number of epochs, or { steps = … } for training figures every so "
                    "many updates; by default it gets all logged figures",
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
    ]
)
