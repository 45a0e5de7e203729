"""A sound collator, and collators with one defect each."""

from __future__ import annotations

import torch


class Stack:
    """Stacks inputs and targets; a sound collator."""

    def __call__(self, samples):
        """Return the batch."""
        inputs, targets = zip(*samples, strict=True)
        return {"inputs": torch.stack(inputs), "targets": torch.tensor([int(target) for target in targets])}


class DropsTheOddOne(Stack):
    """Drops the last sample of an odd number of them, unless it is the only one."""

    def __call__(self, samples):
        """Return the batch."""
        return super().__call__(samples[: len(samples) // 2 * 2] or samples)


class SortsByTarget(Stack):
    """Sorts the samples by class."""

    def __call__(self, samples):
        """Return the batch."""
        return super().__call__(sorted(samples, key=lambda sample: int(sample[1])))


class InventsKeys(Stack):
    """Adds an unknown key to the batch."""

    def __call__(self, samples):
        """Return the batch."""
        return {**super().__call__(samples), "speed": torch.zeros(len(samples))}


class ChangesSamples(Stack):
    """Changes the samples in place."""

    def __call__(self, samples):
        """Return the batch."""
        for inputs, _ in samples:
            inputs.sub_(1)
        return super().__call__(samples)


def no_factory(samples):
    """Collate the samples, although a target must be a factory of collators."""
    return Stack()(samples)
