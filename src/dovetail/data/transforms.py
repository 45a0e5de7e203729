"""Transforms of single samples, and fitting them to the training split."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, final

import torch

from dovetail.data.collators import as_tensor
from dovetail.data.errors import DataError, count
from dovetail.spec import AtLeast


def map_inputs(sample: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return ``sample``, in the same form, with ``change`` applied to its input.

    Raises:
        DataError: the input is not a tensor, array or number.
    """
    if isinstance(sample, Mapping):
        return {**sample, "inputs": change(as_tensor(sample.get("inputs"), "inputs"))}
    if isinstance(sample, tuple | list):
        return (change(as_tensor(sample[0], "inputs")), *sample[1:])
    return change(as_tensor(sample, "inputs"))


def _per_channel(values: torch.Tensor, inputs: torch.Tensor, what: str) -> torch.Tensor:
    """Return one value, or one per channel (the first dimension), shaped to broadcast over ``inputs``."""
    if values.numel() == 1:
        return values.reshape(())
    if inputs.ndim == 0 or len(values) != inputs.shape[0]:
        raise DataError(
            f"{what} has {count(len(values), 'value')}, but an input of shape {tuple(inputs.shape)} needs "
            f"one, or one per entry of its first dimension"
        )
    return values.reshape(-1, *(1,) * (inputs.ndim - 1))


@final
class Normalize:
    """Subtracts a mean and divides by a standard deviation.

    Args:
        mean: one number, or one per channel (the input's first dimension).
        std: one number above 0, or one per channel.

    Raises:
        ValueError: a standard deviation is 0 or less.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(self, *, mean: float | list[float], std: float | list[float]) -> None:
        self._mean, self._std = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
        if not (self._std > 0).all():
            raise ValueError(f"std must be more than 0, got {std}")

    def __call__(self, sample: Any) -> Any:
        """Return the sample with its input normalised, as float32.

        Raises:
            DataError: the number of channels does not match.
        """
        return map_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs.float() - _per_channel(self._mean, inputs, "mean")) / _per_channel(self._std, inputs, "std")


@final
class Standardize:
    """Normalises by the mean and standard deviation of the training samples, per channel or feature.

    The statistics come from the training split alone (:meth:`fit`), so nothing leaks from validation or test. A channel
    that never varies is only shifted to 0.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(self) -> None:
        self._mean: torch.Tensor | None = None
        self._std: torch.Tensor | None = None

    def fit(self, samples: Iterable[Any]) -> None:
        """Compute the statistics of ``samples``, in one pass and in float64.

        Raises:
            DataError: there are no samples, or their inputs differ in their number of channels.
        """
        total = square = torch.zeros(0, dtype=torch.float64)
        shift: torch.Tensor | None = None
        number = 0
        for sample in samples:
            flat = as_tensor(_input(sample), "inputs").double()
            flat = flat.reshape(flat.shape[0] if flat.ndim else 1, -1)
            if shift is None:
                # Squares of values far from 0 cancel, so subtract the first sample's mean.
                shift = flat.mean(1)
                total = square = torch.zeros_like(shift)
            elif len(flat) != len(shift):
                raise DataError(f"the inputs differ in their number of channels: {len(shift)} and {len(flat)}")
            moved = flat - shift[:, None]
            total, square = total + moved.sum(1), square + moved.square().sum(1)
            number += flat.shape[1]
        if shift is None or not number:
            raise DataError("standardize: there are no training samples")
        offset = total / number
        std = (square / number - offset.square()).clamp_min(0).sqrt()
        self._mean = (shift + offset).float()
        self._std = torch.where(std > 0, std, torch.ones_like(std)).float()

    def __call__(self, sample: Any) -> Any:
        """Return the sample with its input standardised, as float32.

        Raises:
            DataError: the number of channels does not match, or :meth:`fit` was not called.
        """
        return map_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._mean is None or self._std is None:
            raise DataError("standardize is not fitted: call fit(train) first")
        return (inputs.float() - _per_channel(self._mean, inputs, "mean")) / _per_channel(self._std, inputs, "std")

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics, so that a checkpoint can be used without the training data."""
        return {"mean": self._mean, "std": self._std}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the statistics of a saved state."""
        self._mean, self._std = state["mean"], state["std"]


def _input(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return sample.get("inputs")
    return sample[0] if isinstance(sample, tuple | list) else sample


def require_floats(transform: str, inputs: torch.Tensor) -> None:
    """Raise DataError, with the name of the transform, unless ``inputs`` are floating-point."""
    if not inputs.is_floating_point():
        dtype = str(inputs.dtype).removeprefix("torch.")
        raise DataError(f"{transform} needs floating-point inputs, got {dtype}")


@final
class GaussianNoise:
    """Adds Gaussian noise to floating-point inputs, drawn from torch's global generator.

    Args:
        std: the standard deviation of the noise, in the unit of the inputs.
    """

    def __init__(self, *, std: Annotated[float, AtLeast(0)]) -> None:
        self._std = std

    def __call__(self, sample: Any) -> Any:
        """Return the sample with noise added to its input.

        Raises:
            DataError: the input is not a floating-point tensor.
        """
        return map_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        require_floats("gaussian_noise", inputs)
        return inputs + self._std * torch.randn_like(inputs)


def fit_transforms(transforms: Iterable[Callable[[Any], Any]], train: Any) -> None:
    """Fit every transform that has a ``fit`` method to the training samples, as changed by the transforms before it.

    Args:
        transforms: in the order in which the loader will apply them.
        train: the training split.
    """
    before: list[Callable[[Any], Any]] = []
    for transform in transforms:
        if hasattr(transform, "transform_batch"):
            return  # no transform of samples may follow: make_loader checks that
        fit = getattr(transform, "fit", None)
        if fit is not None:
            fit(_apply(train[index], before) for index in range(len(train)))
        before.append(transform)


def _apply(sample: Any, transforms: Iterable[Callable[[Any], Any]]) -> Any:
    for transform in transforms:
        sample = transform(sample)
    return sample
