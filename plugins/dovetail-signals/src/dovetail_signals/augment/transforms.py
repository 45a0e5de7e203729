"""The augmentations as transforms for run files: whole batches, on the model's device, with addressed draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, final

from torch import Tensor

from dovetail import AtLeast, Batch, Between, MoreThan, Provided
from dovetail.ops import spec_augment
from dovetail.random import Draws
from dovetail_signals.augment import functional, patches
from dovetail_signals.augment.policy import RandomPolicy
from dovetail_signals.tfr import require_signals


class _SignalTransform:
    """Base class of transforms that change only the signals of a batch."""

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the augmented signals [N, channels, time]."""
        raise NotImplementedError

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with its signals augmented; ValueError if its inputs are not signals."""
        return {**batch, "inputs": self.change(require_signals(batch), draws)}


@final
class GaussianNoise(_SignalTransform):
    """Add white noise.

    Args:
        noise_std: standard deviation of the noise, in the signals' unit.
    """

    def __init__(self, *, noise_std: Annotated[float, AtLeast(0)] = 0.01) -> None:
        self._std = noise_std

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals with noise added."""
        return functional.gaussian_noise_augmentation(signals, self._std, draws=draws)


@final
class AmplitudeScaling(_SignalTransform):
    """Multiply each signal by a random factor.

    Args:
        scale_range: smallest and largest factor.
    """

    def __init__(self, *, scale_range: tuple[float, float] = (0.8, 1.2)) -> None:
        self._range = scale_range

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals scaled."""
        return functional.amplitude_scaling(signals, self._range, draws=draws)


@final
class TimeShift(_SignalTransform):
    """Shift each signal circularly in time.

    Args:
        shift_max: largest shift either way, in samples.
    """

    def __init__(self, *, shift_max: Annotated[int, AtLeast(0)] = 1000) -> None:
        self._max = shift_max

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals shifted."""
        return functional.time_shift(signals, self._max, draws=draws)


@final
class TimeMasking(_SignalTransform):
    """Set random spans of each signal to 0, by the fused op.

    Args:
        mask_param: length of the longest mask, in samples.
        num_masks: number of masks.
    """

    def __init__(
        self, *, mask_param: Annotated[int, AtLeast(0)] = 1000, num_masks: Annotated[int, Between(0, 64)] = 1
    ) -> None:
        self._longest, self._masks = mask_param, num_masks

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the masked signals."""
        return functional.time_masking(signals, self._longest, self._masks, draws=draws)


@final
class AutoAugment(_SignalTransform):
    """Apply a random sub-policy, a short list of augmentations, to each signal.

    Args:
        policy: sub-policies, each a list of steps [operation, probability, magnitude from 0 to 10]; the operations are
            ``noise``, ``scale``, ``shift``, ``mask``, ``invert``. By default a policy chosen by hand.

    Raises:
        ValueError: an unknown operation, or a number out of range.
    """

    def __init__(self, *, policy: list[list[tuple[str, float, float]]] | None = None) -> None:
        self._policy = RandomPolicy(policy)

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals, each augmented by a random sub-policy."""
        return self._policy(signals, draws=draws)


class _MixTransform:
    """Base class of transforms that mix the samples of a batch and their labels."""

    def __init__(self, mix: Callable[..., tuple[Tensor, Tensor]], num_classes: int | None) -> None:
        self._mix, self._classes = mix, num_classes

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with inputs and targets mixed; ValueError if inputs are not one floating-point tensor."""
        inputs = batch["inputs"]
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ValueError("mixing needs inputs that are one floating-point tensor")
        mixed, targets = self._mix(inputs, batch["targets"], num_classes=self._classes, draws=draws)
        return {**batch, "inputs": mixed, "targets": targets}


@final
class Mixup(_MixTransform):
    """Mix each sample with another of its batch. Classes become probabilities, so the loss must take soft labels.

    Args:
        alpha: the weight is drawn from Beta(alpha, alpha).
        num_classes: number of classes; the run provides it.
    """

    def __init__(
        self, *, alpha: Annotated[float, MoreThan(0)] = 1.0, num_classes: Annotated[int | None, Provided] = None
    ) -> None:
        super().__init__(functional.MixupAugmentation(alpha), num_classes)


@final
class CutMix(_MixTransform):
    """Paste a span of another sample of its batch into each. The loss must take soft labels.

    Args:
        alpha: the fraction of a sample to keep is drawn from Beta(alpha, alpha).
        prob: probability that a sample is changed.
        num_classes: number of classes; the run provides it.
    """

    def __init__(
        self,
        *,
        alpha: Annotated[float, MoreThan(0)] = 1.0,
        prob: Annotated[float, Between(0, 1)] = 0.5,
        num_classes: Annotated[int | None, Provided] = None,
    ) -> None:
        def mix(inputs: Tensor, targets: Tensor, **named: Any) -> tuple[Tensor, Tensor]:
            return functional.cutmix_batch(inputs, targets, alpha, prob, **named)

        super().__init__(mix, num_classes)


@final
class SpecAugment:
    """Mask bands of frequency and spans of time in spectrograms [channels, frequencies, times], by the fused op.

    Several representations of a signal are masked independently.

    Args:
        time_mask_param: width of the widest time mask, in steps.
        freq_mask_param: width of the widest frequency mask, in bins.
        num_time_masks: number of time masks.
        num_freq_masks: number of frequency masks.
        max_time_share: largest fraction of time that the time masks may cover together.
        fill: value of masked entries, or "mean" for the mean of the channel.

    Raises:
        ValueError: the inputs of a batch are signals, not spectrograms.

    Source:
        Park et al., SpecAugment (Interspeech 2019).
    """

    def __init__(
        self,
        *,
        time_mask_param: Annotated[int, AtLeast(0)] = 40,
        freq_mask_param: Annotated[int, AtLeast(0)] = 20,
        num_time_masks: Annotated[int, Between(0, 32)] = 2,
        num_freq_masks: Annotated[int, Between(0, 32)] = 2,
        max_time_share: Annotated[float, Between(0, 1)] = 1.0,
        fill: float | Literal["mean"] = 0.0,
    ) -> None:
        self._masks = num_freq_masks + num_time_masks
        self._options: dict[str, Any] = {
            "time_mask_param": time_mask_param,
            "freq_mask_param": freq_mask_param,
            "num_time_masks": num_time_masks,
            "num_freq_masks": num_freq_masks,
            "max_time_share": max_time_share,
            "fill": fill,
        }

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with masked inputs; in a dict of representations, only spectrograms are masked."""
        inputs = batch["inputs"]
        if isinstance(inputs, Tensor):
            return {**batch, "inputs": self._masked(inputs, draws)}
        found = {
            name: self._masked(values, draws.of(name)) if values.ndim == 4 else values  # noqa: PLR2004 ([N, C, F, T])
            for name, values in inputs.items()
        }
        return {**batch, "inputs": found}

    def _masked(self, spectrograms: Tensor, draws: Draws) -> Tensor:
        if spectrograms.ndim == 3 and spectrograms.shape[1] == 1:  # noqa: PLR2004 ([N, 1, T])
            raise ValueError(
                f"needs spectrograms [batch, channels, frequencies, times], got signals {list(spectrograms.shape)}: "
                "put signals.stft or another representation before it"
            )
        return spec_augment(spectrograms, draws.uniform("masks", (self._masks, 2)), **self._options)


_PRESETS: Final[Mapping[str, Callable[[], patches.PatchAugmentation]]] = {
    "light": patches.get_light_augmentation,
    "medium": patches.get_medium_augmentation,
    "heavy": patches.get_heavy_augmentation,
}
_PATCH_STEPS: Final[Mapping[str, Callable[..., Tensor]]] = {
    "dropout": patches.patch_dropout,
    "shift": patches.temporal_shift_patches,
    "cutout": patches.patch_cutout,
    "permutation": patches.patch_permutation,
    "jitter": patches.patch_jitter,
}


@final
class PatchAugment(_SignalTransform):
    """Cut each signal into patches, augment them as a transformer's tokens, and join them again.

    Args:
        patch_size: length of a patch, in samples; a remainder at the end does not change.
        preset: ``light``, ``medium``, or ``heavy``.
        steps: used instead of a preset: any of ``dropout``, ``shift``, ``cutout``, ``permutation``, ``jitter``, each
            with its defaults, in the given order.
    """

    def __init__(
        self,
        *,
        patch_size: Annotated[int, AtLeast(1)] = 64,
        preset: Literal["light", "medium", "heavy"] = "medium",
        steps: Sequence[Literal["dropout", "shift", "cutout", "permutation", "jitter"]] = (),
    ) -> None:
        self._size = patch_size
        self._steps = [_PATCH_STEPS[name] for name in steps] or [_PRESETS[preset]()]

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals with augmented patches; ValueError if a signal is shorter than a patch."""
        count = signals.shape[-1] // self._size
        if count == 0:
            raise ValueError(f"patch_size = {self._size} is longer than the signals, {signals.shape[-1]}")
        number, channels, _ = signals.shape
        whole = count * self._size
        found = signals[..., :whole].reshape(number, channels, count, self._size).transpose(1, 2)
        found = found.reshape(number, count, channels * self._size)
        for step in self._steps:
            found = step(found, draws=draws)
        found = found.reshape(number, count, channels, self._size).transpose(1, 2).reshape(number, channels, whole)
        changed = signals.clone()
        changed[..., :whole] = found
        return changed
