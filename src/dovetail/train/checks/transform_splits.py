"""Which splits a transform applies to, and an alert where validation sees other inputs than training."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from dovetail.data import SPLIT_NAMES
from dovetail.data.batch import batch_size
from dovetail.data.fetcher import is_deterministic, transforms_batches
from dovetail.data.seeding import preserve_rngs, seed_global_rngs
from dovetail.data.transfer import to_device
from dovetail.random import Draws

if TYPE_CHECKING:
    from dovetail.kernel.build import Part
    from dovetail.train.context import Run

#: The type of the alert.
TRAINING_ONLY: Final = "training_only_transform"
#: How many samples a transform of unknown kind is tried on.
_SAMPLES: Final = 8


def splits_of(part: Part, transform: Any) -> Sequence[str]:
    """Return the splits that a transform applies to.

    They are those that the run file names; otherwise all if the transform has ``deterministic = True`` or the trait
    ``every_split``, and training alone if it may be an augmentation.
    """
    chosen = part.reserved.get("splits")
    if chosen is not None:
        return list(chosen)
    traits = part.registered.component.traits if part.registered else frozenset()
    return SPLIT_NAMES if "every_split" in traits or is_deterministic(transform) else ["train"]


def check_transforms(run: Run) -> None:
    """Alert of each deterministic transform that training samples pass through, and those of validation do not.

    A transform that does not say what it is, and whose splits the run file does not name, is tried on a few samples:
    it is deterministic if it changes them, and changes them in the same way again.
    """
    loaders, suspects = run.parts.loaders, {}
    for name, transform in run.parts.transforms.items():
        part = run.config.transforms[name]
        splits, said = splits_of(part, transform), part.reserved.get("splits") is not None
        if "train" in splits and "validation" not in splits and (is_deterministic(transform) or not said):
            suspects[name] = transform
    if loaders.validation is None or not suspects:
        return
    rows = np.arange(min(_SAMPLES, len(loaders.train.dataset)))
    with preserve_rngs():
        subjects: list[Any] = [loaders.train.dataset[int(row)] for row in rows]
    batched = False
    for name, transform in run.parts.transforms.items():
        if "train" not in splits_of(run.config.transforms[name], transform):
            continue
        if transforms_batches(transform) and not batched:
            batched, subjects = True, [to_device(loaders.train.reread(1, rows, whole=False), run.device)]
        if name in suspects and (is_deterministic(transform) or _repeats(transform, subjects, run.device)):
            path = f"transforms.{name}"
            run.alert(
                TRAINING_ONLY,
                f"{path} changes each sample in the same way every time, and applies to training only, so validation "
                'and test see other inputs. For every split, set splits = ["train", "validation", "test"] there, or '
                'deterministic = True in its class; splits = ["train"] keeps it to training',
                about=path,
                cooldown=math.inf,
            )
        subjects = [_apply(transform, subject, 0, run.device) for subject in subjects]


def _apply(transform: Any, subject: Any, seed: int, device: torch.device) -> Any:
    """Return a copy of a sample, or of a batch on ``device``, transformed with the random numbers of a seed."""
    subject = copy.deepcopy(subject)
    if transforms_batches(transform):
        rows = torch.arange(batch_size(subject), device=device)
        return transform.transform_batch(subject, Draws(seed, 1, rows, "trial"))
    with preserve_rngs():
        seed_global_rngs(seed)
        return transform(subject)


def _repeats(transform: Any, subjects: Sequence[Any], device: torch.device) -> bool:
    """Return whether a transform changes samples or batches, and in the same way with other random numbers."""
    own = copy.deepcopy(transform)  # whose own generator, if it has one, may advance
    changed = False
    for subject in subjects:
        first, second = (_apply(own, subject, seed, device) for seed in (1, 2))
        if not _equal(first, second):
            return False
        changed = changed or not _equal(first, subject)
    return changed


def _equal(first: Any, second: Any) -> bool:
    """Return whether two samples hold the same values."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return first.shape == second.shape and bool(((first == second) | (first != first)).all())  # noqa: PLR0124 (NaN)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)
