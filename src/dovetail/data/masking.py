"""Transforms that hide stretches of a sample, so that a model does not lean on any one of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

import torch

from dovetail.data.errors import DataError
from dovetail.data.transforms import change_inputs
from dovetail.ops import spec_augment
from dovetail.spec.limits import AtLeast, Between


@final
class SpecAugment:
    """Masks bands of frequencies and stretches of time in a spectrogram, [frequencies, times] or with channels before.

    All channels get the same masks. Where they are comes from torch's global generator, which the loader seeds for each
    sample: it depends on the run's seed, the epoch and the sample alone. `dovetail.ops.spec_augment` does the work and
    tells how widths and places are drawn.

    Args:
        time_mask_param: the widest mask over time, in steps.
        freq_mask_param: the widest mask over frequencies, in bins.
        num_time_masks: masks over time.
        num_freq_masks: masks over frequencies.
        max_time_share: the share of the time that all masks over time together may cover.
        fill: the value at masked places, or "mean" for the mean of the channel.

    Raises:
        ValueError: there are more than 64 masks.

    Source:
        Park et al., SpecAugment (Interspeech 2019).
    """

    def __init__(
        self,
        *,
        time_mask_param: Annotated[int, AtLeast(0)] = 40,
        freq_mask_param: Annotated[int, AtLeast(0)] = 20,
        num_time_masks: Annotated[int, AtLeast(0)] = 2,
        num_freq_masks: Annotated[int, AtLeast(0)] = 2,
        max_time_share: Annotated[float, Between(0, 1)] = 1.0,
        fill: float | Literal["mean"] = 0.0,
    ) -> None:
        self._options: dict[str, Any] = {
            "time_mask_param": time_mask_param,
            "freq_mask_param": freq_mask_param,
            "num_time_masks": num_time_masks,
            "num_freq_masks": num_freq_masks,
            "max_time_share": max_time_share,
            "fill": fill,
        }
        self._masks = num_freq_masks + num_time_masks
        # Numbers that do not fit are refused here and not at the first sample.
        spec_augment(torch.zeros(0, 1, 1), torch.zeros(0, self._masks, 2), **self._options)

    def __call__(self, sample: Any) -> Any:
        """Return the sample with masks on its input; DataError where the input is no floating-point spectrogram."""
        return change_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        _require_floats("spec_augment", inputs)
        if inputs.ndim not in {2, 3}:
            raise DataError(
                "spec_augment needs inputs of [frequencies, times] or [channels, frequencies, times], "
                f"got shape {tuple(inputs.shape)}"
            )
        return spec_augment(inputs[None], torch.rand(1, self._masks, 2), **self._options)[0]


@final
class TimeMasking:
    """Sets random stretches of a signal to 0: along the input's last dimension, for all channels alike.

    Each mask is 0 to ``mask_param`` steps long and starts anywhere it fits, drawn as :class:`SpecAugment` draws.

    Args:
        mask_param: the longest mask, in steps.
        num_masks: how many masks, up to 64.

    Raises:
        ValueError: there are more than 64 masks.
    """

    def __init__(
        self, *, mask_param: Annotated[int, AtLeast(0)] = 1000, num_masks: Annotated[int, AtLeast(0)] = 1
    ) -> None:
        self._masks = num_masks
        self._options: dict[str, Any] = {
            "time_mask_param": mask_param,
            "num_time_masks": num_masks,
            "num_freq_masks": 0,
        }
        spec_augment(torch.zeros(0, 1, 1), torch.zeros(0, num_masks, 2), **self._options)

    def __call__(self, sample: Any) -> Any:
        """Return the sample with masks on its input; DataError where the input is no floating-point signal."""
        return change_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        _require_floats("time_masking", inputs)
        if inputs.ndim == 0:
            raise DataError("time_masking needs inputs with a dimension of time, got a single number")
        rows = inputs.reshape(1, -1, inputs.shape[-1]) if inputs.numel() else inputs.new_empty(1, 0, 0)
        return spec_augment(rows, torch.rand(1, self._masks, 2), **self._options).reshape(inputs.shape)


def _require_floats(transform: str, inputs: torch.Tensor) -> None:
    if not inputs.is_floating_point():
        found = str(inputs.dtype).removeprefix("torch.")
        raise DataError(f"{transform} needs floating-point inputs, got {found}")
