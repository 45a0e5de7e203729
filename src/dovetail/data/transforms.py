"""Changes to single samples on their way into a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, final

import torch

from dovetail.data.collators import as_tensor
from dovetail.data.errors import DataError, count
from dovetail.spec.limits import AtLeast


def change_inputs(sample: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Return ``sample``, in the form it came in, with its input changed.

    Raises:
        DataError: the input is no tensor, array or number.
    """
    if isinstance(sample, Mapping):
        return {**sample, "inputs": change(as_tensor(sample.get("inputs"), "inputs"))}
    if isinstance(sample, tuple | list):
        return (change(as_tensor(sample[0], "inputs")), *sample[1:])
    return change(as_tensor(sample, "inputs"))


def _per_channel(values: torch.Tensor, inputs: torch.Tensor, what: str) -> torch.Tensor:
    """Shape one value, or one for each channel (an input's first dimension), to be broadcast over ``inputs``."""
    if values.numel() == 1:
        return values.reshape(())
    if inputs.ndim == 0 or len(values) != inputs.shape[0]:
        raise DataError(
            f"{what} has {count(len(values), 'value')}, but an input of shape {tuple(inputs.shape)} needs "
            f"one, or one for each of its first dimension"
        )
    return values.reshape(-1, *(1,) * (inputs.ndim - 1))


@final
class Normalize:
    """Subtracts a mean and divides by a standard deviation.

    Args:
        mean: one number, or one for each channel (the input's first dimension).
        std: likewise; not 0.

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
        """Return the sample with its input normalised, as float32; DataError where the channels do not fit."""
        return change_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs.float() - _per_channel(self._mean, inputs, "mean")) / _per_channel(self._std, inputs, "std")


@final
class Standardize:
    """Normalises by what the training samples show: their mean and standard deviation, by channel or feature.

    The figures come from the training split alone (:meth:`fit`), so nothing leaks from validation or test. A channel
    that never varies is only shifted to 0.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    def __init__(self) -> None:
        self._mean: torch.Tensor | None = None
        self._std: torch.Tensor | None = None

    def fit(self, samples: Iterable[Any]) -> None:
        """Take the figures from ``samples``, in one pass and in float64.

        Raises:
            DataError: there are no samples, or their inputs have different numbers of channels.
        """
        total = square = torch.zeros(0, dtype=torch.float64)
        shift: torch.Tensor | None = None
        number = 0
        for sample in samples:
            flat = as_tensor(_input(sample), "inputs").double()
            flat = flat.reshape(flat.shape[0] if flat.ndim else 1, -1)
            if shift is None:
                # Squares of values far from 0 would cancel, so the first sample's mean is taken off.
                shift = flat.mean(1)
                total = square = torch.zeros_like(shift)
            elif len(flat) != len(shift):
                raise DataError(f"the inputs have different numbers of channels: {len(shift)} and {len(flat)}")
            moved = flat - shift[:, None]
            total, square = total + moved.sum(1), square + moved.square().sum(1)
            number += flat.shape[1]
        if shift is None or not number:
            raise DataError("standardize: there are no training samples to take a mean from")
        offset = total / number
        std = (square / number - offset.square()).clamp_min(0).sqrt()
        self._mean = (shift + offset).float()
        self._std = torch.where(std > 0, std, torch.ones_like(std)).float()

    def __call__(self, sample: Any) -> Any:
        """Return the sample with its input standardised, as float32.

        Raises:
            DataError: the channels do not fit, or :meth:`fit` has not been called.
        """
        return change_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        if self._mean is None or self._std is None:
            raise DataError("standardize has seen no training samples: call fit(train) first")
        return (inputs.float() - _per_channel(self._mean, inputs, "mean")) / _per_channel(self._std, inputs, "std")

    def state_dict(self) -> dict[str, Any]:
        """Return the figures, so that a checkpoint can be used without the training data."""
        return {"mean": self._mean, "std": self._std}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the figures of a saved state."""
        self._mean, self._std = state["mean"], state["std"]


def _input(sample: Any) -> Any:
    if isinstance(sample, Mapping):
        return sample.get("inputs")
    return sample[0] if isinstance(sample, tuple | list) else sample


@final
class GaussianNoise:
    """Adds Gaussian noise to floating-point inputs, drawn from torch's global generator.

    Args:
        std: the noise's standard deviation, in the inputs' unit.
    """

    def __init__(self, *, std: Annotated[float, AtLeast(0)]) -> None:
        self._std = std

    def __call__(self, sample: Any) -> Any:
        """Return the sample with noise on its input; DataError where the input is no floating-point tensor."""
        return change_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        if not inputs.is_floating_point():
            raise DataError(
                f"gaussian_noise needs floating-point inputs, got {str(inputs.dtype).removeprefix('torch.')}"
            )
        return inputs + self._std * torch.randn_like(inputs)


def fit_transforms(transforms: Iterable[Callable[[Any], Any]], train: Any) -> None:
    """Give every transform that has a ``fit`` the training samples, each as those before it leave them.

    Args:
        transforms: in the order in which the loader will apply them.
        train: the training split.
    """
    before: list[Callable[[Any], Any]] = []
    for transform in transforms:
        if hasattr(transform, "transform_batch"):
            return  # the loader lets none of samples come after one of batches
        fit = getattr(transform, "fit", None)
        if fit is not None:
            fit(_changed(train[index], before) for index in range(len(train)))
        before.append(transform)


def _changed(sample: Any, transforms: Iterable[Callable[[Any], Any]]) -> Any:
    for transform in transforms:
        sample = transform(sample)
    return sample
