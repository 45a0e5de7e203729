"""Data loaders for a task, from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import torch
from attrs import field, frozen
from attrs.validators import ge

from dovetail.data.batch import Batch
from dovetail.data.loader import Loader, make_loader
from dovetail.pieces.by_name import ObjectRegistry
from dovetail.spec.plugins import Plugins

#: Makes a batch from a list of samples. Your own may return anything that your loop accepts.
Collate = Callable[[list[Any]], Any]

#: The collator of each task; other tasks have the collator "default".
_COLLATORS: Final = {
    "language_modeling": "language_modeling",
    "classification": "classification",
    "text_classification": "classification",
    "image_classification": "vision",
    "segmentation": "vision",
    "detection": "vision",
    "sequence_to_sequence": "sequence_to_sequence",
    "seq2seq": "sequence_to_sequence",
}


class CollatorRegistry:
    """Finds a collator by name: first among its registered objects, then among the installed collators.

    Args:
        plugins: the plugins whose collators to find; None discovers the installed ones at the first use.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._objects = ObjectRegistry("collator", plugins)

    def register(self, name: str, collator: Any) -> None:
        """Register a collator in this registry.

        Args:
            name: the name for :meth:`get`; it takes precedence over an installed collator of the same name.
            collator: a callable that takes a list of samples and returns a batch.

        Raises:
            ValueError: the name is taken in this registry.
            TypeError: ``collator`` is not callable, or is a class.
        """
        if not callable(collator):
            raise TypeError(
                f"'{name}': a collator is called with a list of samples, but {type(collator).__name__} is not callable"
            )
        self._objects.register(name, collator)

    def get(self, name: str) -> Collate:
        """Return the collator of that name; an installed one is built with its defaults.

        Raises:
            PluginError: there is no collator of that name; the message suggests the nearest.
            ValueError: the installed collator needs options.
        """
        found: Collate = self._objects.get(name)
        return found


@final
@frozen
class DataLoaderConfig:
    """How a loader for training reads its samples. A loader for evaluation reads each once, in order."""

    #: Samples per batch.
    batch_size: int = field(default=32, validator=ge(1))
    #: Whether to shuffle the samples in each epoch.
    shuffle: bool = True
    #: Whether to drop a last batch with fewer samples.
    drop_last: bool = False


@final
class DataLoaderFactory:
    """Creates loaders with the collator of a task.

    Args:
        task_spec: the name of the task, or an object with ``task_type`` and optionally ``modality``. Image tasks, and
            any task with the modality ``"vision"``, have the collator ``vision``; unknown tasks have ``default``.
        seed: the seed of the shuffled order and of random transforms.
        pin_memory: put batches into page-locked memory if there is a GPU.
        num_workers: processes that read ahead; 0 reads in this process.
        collators: the registry of collators; None uses the installed ones.
    """

    def __init__(
        self,
        task_spec: Any,
        seed: int = 42,
        pin_memory: bool = True,  # noqa: FBT001, FBT002 (the documented signature)
        num_workers: int = 4,
        collators: CollatorRegistry | None = None,
    ) -> None:
        self.task_spec = task_spec
        self.seed = seed
        self.pin_memory = pin_memory
        self.num_workers = num_workers
        self.collators = collators or CollatorRegistry()

    def create_loader(
        self,
        dataset: Any,
        config: DataLoaderConfig | None = None,
        is_eval: bool = False,  # noqa: FBT001, FBT002 (the documented signature)
    ) -> Loader:
        """Return a loader that depends on the arguments only, not on earlier loaders.

        Args:
            dataset: a map-style dataset.
            config: batch size, order and last batch; None for the defaults.
            is_eval: read every sample once, in order, regardless of ``config``.

        Raises:
            ValueError: the loader would have no batches.
            PluginError: the collator of the task is not installed.
        """
        config = config or DataLoaderConfig()
        return make_loader(
            dataset,
            self._collator(),
            batch_size=config.batch_size,
            shuffle=config.shuffle and not is_eval,
            drop_last=config.drop_last and not is_eval,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
        )

    def _collator(self) -> Callable[[list[Any]], Batch]:
        task = self.task_spec if isinstance(self.task_spec, str) else getattr(self.task_spec, "task_type", None)
        if getattr(self.task_spec, "modality", None) == "vision":
            return self.collators.get("vision")
        return self.collators.get(_COLLATORS.get(str(task), "default"))
