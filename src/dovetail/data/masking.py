"""Transforms that mask random parts of a sample, so that a model does not depend on any single part."""

from __future__ import annotations

from typing import Annotated, Any, Literal, final

import torch

from dovetail.data.errors import DataError
from dovetail.data.transforms import map_inputs, require_floats
from dovetail.ops import spec_augment
from dovetail.spec import AtLeast, Between


@final
class SpecAugment:
    """Masks random frequency bands and time spans of a spectrogram: SpecAugment.

    Inputs are ``[frequencies, times]`` or ``[channels, frequencies, times]``; all channels get the same masks. The
    positions come from torch's global generator, which the loader seeds for each sample, so they depend only on the
    run's seed, the epoch and the sample. :func:`dovetail.ops.spec_augment` documents how widths and positions are
    drawn.

    Args:
        time_mask_param: the maximum width of a time mask, in steps.
        freq_mask_param: the maximum width of a frequency mask, in bins.
        num_time_masks: the number of time masks.
        num_freq_masks: the number of frequency masks.
        max_time_share: the fraction of the time, 0 to 1, that all time masks together may cover.
        fill: the value of masked elements, or "mean" for the channel's mean.

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
        # Check the options now rather than at the first sample.
        spec_augment(torch.zeros(0, 1, 1), torch.zeros(0, self._masks, 2), **self._options)

    def __call__(self, sample: Any) -> Any:
        """Return the sample with its input masked.

        Raises:
            DataError: the input is not a floating-point spectrogram.
        """
        return map_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        require_floats("spec_augment", inputs)
        if inputs.ndim not in {2, 3}:
            raise DataError(
                "spec_augment needs inputs of [frequencies, times] or [channels, frequencies, times], "
                f"got shape {tuple(inputs.shape)}"
            )
        return spec_augment(inputs[None], torch.rand(1, self._masks, 2), **self._options)[0]


@final
class TimeMasking:
    """Sets random time spans of a signal, along the input's last dimension, to 0; all channels get the same masks.

    Each mask is 0 to ``mask_param`` steps long and starts anywhere it fits, drawn as in :class:`SpecAugment`.

    Args:
        mask_param: the maximum length of a mask, in steps.
        num_masks: the number of masks, up to 64.

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
        """Return the sample with its input masked.

        Raises:
            DataError: the input is not a floating-point signal.
        """
        return map_inputs(sample, self._change)

    def _change(self, inputs: torch.Tensor) -> torch.Tensor:
        require_floats("time_masking", inputs)
        if inputs.ndim == 0:
            raise DataError("time_masking needs inputs with a time dimension, got a single number")
        rows = inputs.reshape(1, -1, inputs.shape[-1]) if inputs.numel() else inputs.new_empty(1, 0, 0)
        return spec_augment(rows, torch.rand(1, self._masks, 2), **self._options).reshape(inputs.shape)
