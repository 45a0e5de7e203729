"""Loaders for a task, from Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import torch
from attrs import field, frozen
from attrs.validators import ge

from dovetail.data.batch import Batch
from dovetail.data.loader import Loader, make_loader
from dovetail.pieces.registry import ObjectRegistry
from dovetail.spec.plugins import Plugins

#: Makes a batch of a list of samples. One of the user's own may return what its loop takes.
Collate = Callable[[list[Any]], Any]

_BY_TASK: Final = {
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
    """Finds a collator among its own, and then among the installed ones.

    Args:
        plugins: the installed ones; by default whatever is installed.
    """

    def __init__(self, plugins: Plugins | None = None) -> None:
        self._objects = ObjectRegistry("collator", plugins)

    def register(self, name: str, collator: Any) -> None:
        """Keep a collator under a name, in this registry.

        Args:
            name: what :meth:`get` finds it by, before any installed collator of that name.
            collator: called with a list of samples, returns a batch.

        Raises:
            ValueError: the name is taken in this registry.
            TypeError: it cannot be called, or is a class.
        """
        if not callable(collator):
            msg = f"'{name}': a collator is called with a list of samples; {type(collator).__name__} cannot be called"
            raise TypeError(msg)
        self._objects.register(name, collator)

    def get(self, name: str) -> Collate:
        """Return the collator of that name; an installed one is built with its defaults.

        Raises:
            PluginError: nothing has that name; the nearest is suggested.
            ValueError: it cannot be built without options.
        """
        found: Collate = self._objects.get(name)
        return found


@final
@frozen
class DataLoaderConfig:
    """How a loader of a training split goes through it; in evaluation all samples are read once, in order."""

    #: Samples in a batch.
    batch_size: int = field(default=32, validator=ge(1))
    #: Whether each epoch has an order of its own.
    shuffle: bool = True
    #: Whether a last batch that is not full is left out.
    drop_last: bool = False


@final
class DataLoaderFactory:
    """Makes loaders with the collator of a task.

    Args:
        task_spec: the task: its name, or an object with ``task_type`` and perhaps ``modality``. Images, whether by
            modality or by task, get the collator ``vision``; a task without a collator of its own the ``default``.
        seed: draws the order of shuffled samples and the numbers of random transforms.
        pin_memory: put batches in page-locked memory where there is a GPU.
        num_workers: processes that read ahead; 0 reads in this process.
        collators: where collators are looked for by name.
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
        """Return a loader, the same for the same arguments whatever was loaded before.

        Args:
            dataset: a map-style dataset.
            config: batch size, order, and the last batch; None for the defaults.
            is_eval: read every sample once, in order, whatever ``config`` says of these.

        Raises:
            ValueError: not one batch comes out.
            PluginError: the task's collator is not there.
        """
        said = config or DataLoaderConfig()
        return make_loader(
            dataset,
            self._collator(),
            batch_size=said.batch_size,
            shuffle=said.shuffle and not is_eval,
            drop_last=said.drop_last and not is_eval,
            seed=self.seed,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory and torch.cuda.is_available(),
        )

    def _collator(self) -> Callable[[list[Any]], Batch]:
        task = self.task_spec if isinstance(self.task_spec, str) else getattr(self.task_spec, "task_type", None)
        if getattr(self.task_spec, "modality", None) == "vision":
            return self.collators.get("vision")
        return self.collators.get(_BY_TASK.get(str(task), "default"))
