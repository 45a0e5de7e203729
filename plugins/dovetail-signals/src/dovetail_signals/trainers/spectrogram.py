"""Training on spectrograms with SpecAugment, and on several representations at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, final

import torch
from torch import Tensor

from dovetail import AtLeast, Batch, LossResult, ModelOutput, Run, StandardTrainer
from dovetail.random import Draws
from dovetail_signals.augment.transforms import SpecAugment

_HEAD: Final = "logits_"


class SpectrogramTrainer(StandardTrainer):
    """Mask bands of frequency and spans of time in every training batch, by the fused op.

    A mask depends on the run's seed, the epoch, and the sample's position in the epoch, so a resumed run draws the same
    masks. The transform `signals.spec_augment` draws them by sample instead, and works with every trainer.

    Args:
        use_specaugment: whether to mask.
        time_mask_param: width of the widest time mask, in steps.
        freq_mask_param: width of the widest frequency mask, in bins.
        num_time_masks: number of time masks.
        num_freq_masks: number of frequency masks.

    Source:
        Park et al., SpecAugment (Interspeech 2019).
    """

    def __init__(
        self,
        *,
        use_specaugment: bool = True,
        time_mask_param: Annotated[int, AtLeast(0)] = 40,
        freq_mask_param: Annotated[int, AtLeast(0)] = 20,
        num_time_masks: Annotated[int, AtLeast(0)] = 2,
        num_freq_masks: Annotated[int, AtLeast(0)] = 2,
    ) -> None:
        self._masks = (
            SpecAugment(
                time_mask_param=time_mask_param,
                freq_mask_param=freq_mask_param,
                num_time_masks=num_time_masks,
                num_freq_masks=num_freq_masks,
            )
            if use_specaugment
            else None
        )

    def batches(self, run: Run) -> Iterable[Batch]:
        """Return the batches of the epoch, masked on the model's device."""
        found = super().batches(run)
        return found if self._masks is None else self._masked(run, found, self._masks)

    def _masked(self, run: Run, batches: Iterable[Batch], masks: SpecAugment) -> Iterator[Batch]:
        seed, epoch, size = run.config.run.seed, run.state.epoch, run.parts.loaders.train.batch_size
        for number, batch in enumerate(batches, start=run.state.batch):
            moved = self.prepare_batch(run, batch)
            inputs = moved["inputs"]
            first = inputs if isinstance(inputs, Tensor) else next(iter(inputs.values()))
            places = torch.arange(len(first), device=first.device) + number * size
            yield masks.transform_batch(moved, Draws(seed, epoch, places, "spectrogram trainer"))


@final
class MultiTFRTrainer(SpectrogramTrainer):
    """Train on several representations at once, with a weighted loss for each.

    The model, such as `signals.multi_tfr_fusion`, returns the logits of each representation as ``logits_NAME``, and the
    fused ``logits``, which metrics use. Without the former, the loss is that of ``logits``.

    Args:
        tfr_weights: weight of each representation's loss; 1 by default.
        use_specaugment: whether to mask spectrograms.
        time_mask_param: width of the widest time mask, in steps.
        freq_mask_param: width of the widest frequency mask, in bins.
        num_time_masks: number of time masks.
        num_freq_masks: number of frequency masks.
    """

    def __init__(
        self,
        *,
        tfr_weights: Mapping[str, Annotated[float, AtLeast(0)]] | None = None,
        use_specaugment: bool = True,
        time_mask_param: Annotated[int, AtLeast(0)] = 40,
        freq_mask_param: Annotated[int, AtLeast(0)] = 20,
        num_time_masks: Annotated[int, AtLeast(0)] = 2,
        num_freq_masks: Annotated[int, AtLeast(0)] = 2,
    ) -> None:
        super().__init__(
            use_specaugment=use_specaugment,
            time_mask_param=time_mask_param,
            freq_mask_param=freq_mask_param,
            num_time_masks=num_time_masks,
            num_freq_masks=num_freq_masks,
        )
        self._weights = dict(tfr_weights or {})

    def compute_loss(self, run: Run, batch: Batch) -> LossResult:
        """Return the weighted mean of the representations' losses."""
        return self._loss(run, run.forward(batch), batch)

    def evaluation_step(self, run: Run, batch: Batch) -> tuple[ModelOutput, LossResult]:
        """Return the outputs and the weighted loss."""
        outputs = run.forward(batch)
        return outputs, self._loss(run, outputs, batch)

    def _loss(self, run: Run, outputs: ModelOutput, batch: Batch) -> LossResult:
        heads = {name.removeprefix(_HEAD): logits for name, logits in outputs.extras.items() if name.startswith(_HEAD)}
        if unknown := sorted(set(self._weights) - set(heads)):
            raise ValueError(
                f"trainer.tfr_weights: unknown representation '{unknown[0]}'; use {', '.join(heads) or 'none'}"
            )
        if not heads:
            return run.criterion(outputs, batch)
        losses = {name: run.criterion(ModelOutput(logits), batch) for name, logits in heads.items()}
        weights = {name: self._weights.get(name, 1.0) for name in heads}
        scale = sum(weights.values())
        total: Any = sum(loss.total * (weights[name] / scale) for name, loss in losses.items())
        parts = {name: loss.total.detach() for name, loss in losses.items()}
        return LossResult(total, parts, next(iter(losses.values())).weight)
