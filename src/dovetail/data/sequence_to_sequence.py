"""From pairs of sequences to a batch for an encoder and a decoder."""

from __future__ import annotations

from typing import Any, ClassVar, final

from attrs import frozen
from torch import Tensor

from dovetail.data.batch import Batch
from dovetail.data.collators import by_field, gather
from dovetail.data.errors import DataError
from dovetail.data.tokens import pad_tokens, read_tokens, real


@final
@frozen
class SequenceToSequenceCollator:
    """Right-pads each side to its own longest.

    ``inputs`` is a dict, which reaches the model as keywords: ``input_ids`` and ``attention_mask`` (True where real),
    both ``[batch, source length]``, and ``decoder_input_ids`` ``[batch, target length]``, the targets one step later
    behind ``decoder_start_token_id``. ``targets`` are ``[batch, target length]`` and ``mask``, of that shape, is True
    where they are real.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: What is put where a sequence has ended.
    pad_token_id: int = 0
    #: What a decoder begins with; None for ``pad_token_id``.
    decoder_start_token_id: int | None = None
    #: What the targets have where they have ended, so that losses and metrics leave it out.
    ignore_index: int = -100

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: a sample has no targets, or a side that is no sequence of integers.
        """
        fields = by_field(samples)
        if "targets" not in fields:
            raise DataError("samples have no targets; a sample is (source, target) or a dict with inputs and targets")
        if "mask" in fields:
            raise DataError("samples have a mask; this collator makes those of both sides itself")
        sources, targets = read_tokens(fields["inputs"], "inputs"), read_tokens(fields["targets"], "targets")
        ids, wanted = pad_tokens(sources, self.pad_token_id), pad_tokens(targets, self.ignore_index)
        inputs = {
            "input_ids": ids,
            "attention_mask": real(sources, ids.shape[1]),
            "decoder_input_ids": self._later(targets, wanted.shape[1]),
        }
        batch = Batch(inputs=inputs, targets=wanted, mask=real(targets, wanted.shape[1]))
        if "meta" in fields:
            batch["meta"] = {key: gather(values) for key, values in fields["meta"].items()}
        return batch

    def _later(self, targets: list[Tensor], length: int) -> Tensor:
        """Return what the decoder is shown: at each step the target of the step before."""
        start = self.pad_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id
        shown = pad_tokens(targets, self.pad_token_id, length).roll(1, dims=1)
        # A target that ends before the batch's longest leaves its own last token behind its end: that is padding.
        shown = shown.where(real(targets, length), self.pad_token_id)
        shown[:, :1] = start
        return shown
