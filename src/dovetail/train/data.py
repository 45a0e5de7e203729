"""The data of a run: loaded, split, transformed and batched, with the facts that other parts ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from attrs import field, frozen

from dovetail.data import SPLIT_NAMES, SplitName, Splits, split
from dovetail.data.loader import Loader, make_loader
from dovetail.data.seeding import preserve_rngs, seed_global_rngs
from dovetail.kernel.build import BuildError, build
from dovetail.train.checks.transform_splits import splits_of
from dovetail.train.context import Loaders
from dovetail.train.errors import build_at

if TYPE_CHECKING:
    from dovetail.config.schema import RunConfig
    from dovetail.distributed.group import Group


@frozen(eq=False)
class Data:
    """The data of a run: the batches of each split, and facts about the data."""

    loaders: Loaders
    transforms: Mapping[str, Any]
    #: What parts may ask for: ``seed``, and facts such as ``num_classes``.
    provided: Mapping[str, Any]
    #: For the record: fingerprint, sizes, class_names, and the facts that are provided.
    facts: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def build(cls, config: RunConfig, device: torch.device, group: Group) -> Data:
        """Load and split the dataset, fit the transforms, and make the loaders.

        Args:
            config: the run's config.
            device: where to train.
            group: the processes that share the batches.

        Raises:
            BuildError: the data cannot be used as the config says.
        """
        seed = config.run.seed
        dataset = build(config.data, {"seed": seed})
        splits = build_at("data.split", lambda: split(dataset, config.data.reserved.get("split"), seed))
        empty = next((name for name, part in splits if not len(part)), None)
        if empty is not None:
            raise BuildError("data", f"the {empty} split has no samples; where there is no such split, it is None")
        num_classes = _num_classes(splits)
        given = {"num_classes": num_classes}
        transforms = {name: build(part, given) for name, part in config.transforms.items()}
        used: dict[str, list[Any]] = {
            split_name: [
                transforms[name]
                for name, part in config.transforms.items()
                if split_name in splits_of(part, transforms[name])
            ]
            for split_name in SPLIT_NAMES
        }
        if used["train"]:
            from dovetail.data.transforms import fit_transforms

            with preserve_rngs():
                seed_global_rngs(seed)
                build_at("transforms", lambda: fit_transforms(used["train"], splits.train))
        collator = build(config.collator, given)
        pinned = device.type == "cuda" and config.loader.pin_memory is not False
        loaders = {
            name: build_at(
                "loader",
                partial(
                    _loader,
                    config,
                    name,
                    part,
                    collator=collator,
                    transforms=used[name],
                    pinned=pinned,
                    device=device,
                    group=group,
                ),
            )
            for name, part in splits
        }
        training = {
            name: transforms[name]
            for name, part in config.transforms.items()
            if "train" in splits_of(part, transforms[name])
        }
        shape = _checked_input_shape(splits.train, collator, training, seed)
        train = splits.train
        class_names = getattr(train, "class_names", None)
        known = {
            "num_classes": num_classes,
            "num_outputs": getattr(train, "num_outputs", None),
            "class_counts": build_at("data", lambda: _class_counts(train, num_classes)),
            "input_shape": shape,
            "vocab_size": getattr(train, "vocab_size", None),
        }
        facts = {
            "fingerprint": getattr(train, "fingerprint", None),
            "sizes": {name: len(part) for name, part in splits},
            "class_names": None if class_names is None else list(class_names),
            **known,
        }
        return cls(Loaders(**loaders), transforms, {"seed": seed, **known}, facts)


def _loader(
    config: RunConfig,
    name: SplitName,
    samples: Any,
    *,
    collator: Any,
    transforms: Sequence[Any],
    pinned: bool,
    device: torch.device,
    group: Group,
) -> Loader:
    section, training = config.loader, name == "train"
    return make_loader(
        samples,
        collator,
        batch_size=section.batch_size if training else section.eval_batch_size or section.batch_size,
        shuffle=training and section.shuffle,
        seed=config.run.seed,
        num_workers=section.num_workers,
        pin_memory=pinned,
        drop_last=training and section.drop_last,
        transforms=transforms,
        device=device,
        rank=group.rank,
        world_size=group.size,
        whole_batches=group.size > 1 and not training,
    )


def _class_counts(train: Any, num_classes: int | None) -> list[int] | None:
    targets = getattr(train, "targets", None)
    if num_classes is None or targets is None:
        return None
    counts: list[int] = np.bincount(np.asarray(targets), minlength=num_classes).tolist()
    return counts


def _num_classes(splits: Splits) -> int | None:
    """Return the number of classes: the dataset's own, or one more than the largest integer label; else None."""
    if hasattr(splits.train, "num_classes"):
        known: int | None = splits.train.num_classes
        return known
    labels = [np.asarray(targets) for _, part in splits if (targets := getattr(part, "targets", None)) is not None]
    if not labels or any(values.dtype.kind not in "iu" or values.ndim != 1 for values in labels):
        return None
    return int(max(values.max(initial=-1) for values in labels)) + 1


def _checked_input_shape(train: Any, collator: Any, transforms: Mapping[str, Any], seed: int) -> tuple[int, ...] | None:
    """Return :func:`_input_shape`, and locate the part that refuses a sample.

    Raises:
        BuildError: a sample cannot be read, or a transform refuses it; the error has the place of that part.
    """
    applied = list(transforms.values())
    try:
        return build_at("data", lambda: _input_shape(train, collator, applied, seed))
    except BuildError:
        for count, name in enumerate(["", *transforms]):
            path = f"transforms.{name}" if name else "data"
            build_at(path, partial(_input_shape, train, collator, applied[:count], seed))
        raise


def _input_shape(train: Any, collator: Any, transforms: Sequence[Any], seed: int) -> tuple[int, ...] | None:
    """Return the shape of one sample's input as the model will see it; None where inputs are a dict."""
    own = getattr(train, "input_shape", None)
    if own is not None and not transforms:
        return tuple(own)
    first = next(iter(make_loader(train, collator, batch_size=1, seed=seed, transforms=transforms)))
    inputs = first.get("inputs")
    return tuple(inputs.shape[1:]) if isinstance(inputs, torch.Tensor) else None
