"""Collators with one defect each."""

from __future__ import annotations

import torch


class Stack:
    """Stacks inputs and targets, with nothing wrong."""

    def __call__(self, samples):
        """Return the batch."""
        inputs, targets = zip(*samples, strict=True)
        return {"inputs": torch.stack(inputs), "targets": torch.tensor([int(one) for one in targets])}


class DropsTheOddOne(Stack):
    """Keeps an even number of samples, unless there is only one."""

    def __call__(self, samples):
        """Return the batch."""
        return super().__call__(samples[: len(samples) // 2 * 2] or samples)


class SortsByTarget(Stack):
    """Puts classes together."""

    def __call__(self, samples):
        """Return the batch."""
        return super().__call__(sorted(samples, key=lambda sample: int(sample[1])))


class InventsKeys(Stack):
    """Puts something beside the inputs."""

    def __call__(self, samples):
        """Return the batch."""
        return {**super().__call__(samples), "speed": torch.zeros(len(samples))}


class ChangesSamples(Stack):
    """Centres the samples, in the dataset's own memory."""

    def __call__(self, samples):
        """Return the batch."""
        for inputs, _ in samples:
            inputs.sub_(1)
        return super().__call__(samples)


def no_factory(samples):
    """Be the collator, and no factory of one."""
    return Stack()(samples)
