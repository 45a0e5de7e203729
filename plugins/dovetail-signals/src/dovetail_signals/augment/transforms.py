"""The transforms of run files: augmentation of whole batches, where the model is, by address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal, final

from torch import Tensor

from dovetail import AtLeast, Batch, Between, MoreThan, Provided
from dovetail.ops import spec_augment
from dovetail.random import Draws
from dovetail_signals.augment import functional, patches
from dovetail_signals.augment.policy import AutoAugment as Policy
from dovetail_signals.tfr import require_signals


class _SignalTransform:
    """Changes the signals of a batch."""

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return signals [N, channels, time], changed."""
        raise NotImplementedError

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with its signals changed; ValueError where its inputs are no signals."""
        return {**batch, "inputs": self.change(require_signals(batch), draws)}


@final
class GaussianNoise(_SignalTransform):
    """Adds white noise.

    Args:
        noise_std: its standard deviation, in the signals' unit.
    """

    def __init__(self, *, noise_std: Annotated[float, AtLeast(0)] = 0.01) -> None:
        self._std = noise_std

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals with noise."""
        return functional.gaussian_noise_augmentation(signals, self._std, draws=draws)


@final
class AmplitudeScaling(_SignalTransform):
    """Multiplies each signal by a factor of its own.

    Args:
        scale_range: the smallest and the largest factor.
    """

    def __init__(self, *, scale_range: tuple[float, float] = (0.8, 1.2)) -> None:
        self._range = scale_range

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals scaled."""
        return functional.amplitude_scaling(signals, self._range, draws=draws)


@final
class TimeShift(_SignalTransform):
    """Turns each signal around in time; what leaves one end enters at the other.

    Args:
        shift_max: the most steps, either way.
    """

    def __init__(self, *, shift_max: Annotated[int, AtLeast(0)] = 1000) -> None:
        self._most = shift_max

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals shifted."""
        return functional.time_shift(signals, self._most, draws=draws)


@final
class TimeMasking(_SignalTransform):
    """Sets stretches of each signal to 0, by the fused op.

    Args:
        mask_param: the longest mask, in steps.
        num_masks: how many masks.
    """

    def __init__(
        self, *, mask_param: Annotated[int, AtLeast(0)] = 1000, num_masks: Annotated[int, Between(0, 64)] = 1
    ) -> None:
        self._longest, self._masks = mask_param, num_masks

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals with masks."""
        return functional.time_masking(signals, self._longest, self._masks, draws=draws)


@final
class AutoAugment(_SignalTransform):
    """Applies to each signal one of several short recipes.

    Args:
        policy: recipes, each a list of steps [operation, probability, magnitude from 0 to 10]; the operations are
            ``noise``, ``scale``, ``shift``, ``mask``, ``invert``. By default a policy written by hand.

    Raises:
        ValueError: an unknown operation, or a number out of range.
    """

    def __init__(self, *, policy: list[list[tuple[str, float, float]]] | None = None) -> None:
        self._policy = Policy(policy)

    def change(self, signals: Tensor, draws: Draws) -> Tensor:
        """Return the signals, each changed by a recipe of its own."""
        return self._policy(signals, draws=draws)


class _MixTransform:
    """Mixes the samples of a batch, and their labels alike."""

    def __init__(self, mix: Callable[..., tuple[Tensor, Tensor]], num_classes: int | None) -> None:
        self._mix, self._classes = mix, num_classes

    def transform_batch(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch with inputs and targets mixed; ValueError where inputs are no floating-point tensor."""
        inputs = batch["inputs"]
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            raise ValueError("mixing needs inputs that are one floating-point tensor")
        mixed, targets = self._mix(inputs, batch["targets"], num_classes=self._classes, draws=draws)
        return {**batch, "inputs": mixed, "targets": targets}


@final
class Mixup(_MixTransform):
    """Mixes each sample with another of its batch. Classes become probabilities: the loss must take soft labels.

    Args:
        alpha: the share is drawn from Beta(alpha, alpha).
        num_classes: of the dataset; the run knows it.
    """

    def __init__(
        self, *, alpha: Annotated[float, MoreThan(0)] = 1.0, num_classes: Annotated[int | None, Provided] = None
    ) -> None:
        super().__init__(functional.MixupAugmentation(alpha), num_classes)


@final
class CutMix(_MixTransform):
    """Pastes a stretch of another sample of its batch into each. The loss must take soft labels.

    Args:
        alpha: the share that is kept is drawn from Beta(alpha, alpha).
        prob: probability with which a sample is changed at all.
        num_classes: of the dataset; the run knows it.
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
    """Masks bands of frequencies and stretches of time in spectrograms [channels, frequencies, times], by the fused op.

    Where inputs are several representations, each gets masks of its own.

    Args:
        time_mask_param: the widest mask over time, in steps.
        freq_mask_param: the widest mask over frequencies, in bins.
        num_time_masks: masks over time.
        num_freq_masks: masks over frequencies.
        max_time_share: the share of the time that all masks over time together may cover.
        fill: the value at masked places, or "mean" for the mean of the channel.

    Raises:
        ValueError: of a batch: its inputs are signals.

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
        """Return the batch with masks; a dict's spectrograms are masked, and what in it is none stays."""
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
                f"needs spectrograms, [batch, channels, frequencies, times]; got {list(spectrograms.shape)}, which are "
                "signals: put signals.stft, or another representation, before it"
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
    """Cuts each signal into patches, changes them as a transformer's tokens, and puts them together again.

    Args:
        patch_size: length of a patch, in steps; what is left at the end stays as it is.
        preset: ``light``, ``medium``, or ``heavy``.
        steps: in place of a preset: any of ``dropout``, ``shift``, ``cutout``, ``permutation``, ``jitter``, with their
            own defaults, in this order.
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
        """Return the signals with their patches changed; ValueError where a signal is shorter than one."""
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
