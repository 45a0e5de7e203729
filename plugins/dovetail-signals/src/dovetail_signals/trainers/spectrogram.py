"""Training on spectrograms: masks while training, and several representations at once."""

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
    """Masks bands of frequencies and stretches of time in every training batch, by the fused op.

    A mask depends on the run's seed, the epoch, and the sample's place in the epoch: a resumed run draws the same. The
    transform `signals.spec_augment` does it by sample instead, and goes with every trainer.

    Args:
        use_specaugment: whether to mask at all.
        time_mask_param: the widest mask over time, in steps.
        freq_mask_param: the widest mask over frequencies, in bins.
        num_time_masks: masks over time.
        num_freq_masks: masks over frequencies.

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
        """Return the batches of the epoch, masked where the model is."""
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
    """Trains on several representations at once, each with a loss of its own, weighted.

    The model returns what it makes of each as ``logits_NAME``, as `signals.multi_tfr_fusion` does, beside the
    ``logits`` of all together, which the metrics read. Without them the loss is that of ``logits``.

    Args:
        tfr_weights: how much each representation's loss counts; 1 where nothing is said.
        use_specaugment: whether to mask spectrograms.
        time_mask_param: the widest mask over time, in steps.
        freq_mask_param: the widest mask over frequencies, in bins.
        num_time_masks: masks over time.
        num_freq_masks: masks over frequencies.
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
        """Return the weighted mean of the losses of all representations."""
        return self._loss(run, run.forward(batch), batch)

    def evaluation_step(self, run: Run, batch: Batch) -> tuple[ModelOutput, LossResult]:
        """Return the outputs, and the weighted loss."""
        outputs = run.forward(batch)
        return outputs, self._loss(run, outputs, batch)

    def _loss(self, run: Run, outputs: ModelOutput, batch: Batch) -> LossResult:
        heads = {name.removeprefix(_HEAD): logits for name, logits in outputs.extras.items() if name.startswith(_HEAD)}
        if unknown := sorted(set(self._weights) - set(heads)):
            raise ValueError(f"trainer.tfr_weights names '{unknown[0]}'; the model's are {', '.join(heads) or 'none'}")
        if not heads:
            return run.criterion(outputs, batch)
        losses = {name: run.criterion(ModelOutput(logits), batch) for name, logits in heads.items()}
        weights = {name: self._weights.get(name, 1.0) for name in heads}
        scale = sum(weights.values())
        total: Any = sum(loss.total * (weights[name] / scale) for name, loss in losses.items())
        parts = {name: loss.total.detach() for name, loss in losses.items()}
        return LossResult(total, parts, next(iter(losses.values())).weight)
