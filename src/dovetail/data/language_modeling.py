"""From texts of different lengths to a batch for next-token prediction."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, final

import torch
from attrs import field, frozen
from attrs.validators import ge, optional

from dovetail.data.batch import Batch
from dovetail.data.collators import by_field, gather
from dovetail.data.errors import DataError
from dovetail.data.tokens import pad_tokens, read_tokens, real
from dovetail.spec.limits import AtLeast


@final
@frozen
class LanguageModelingCollator:
    """Right-pads tokens, and leaves the padding out of the targets.

    The batch has ``inputs`` ``[batch, length]`` int64, ``mask`` of that shape (True where real), ``targets`` of that
    shape, which are the inputs where a sample has none of its own, and ``meta`` as the default collator makes it.
    The loss ``language_modeling`` shifts targets that are the inputs.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: What is put where a text has ended. It may be a token that also occurs in texts.
    pad_token_id: int = 0
    #: Length of every batch; None for the batch's longest.
    seq_len: Annotated[int, AtLeast(1)] | None = field(default=None, validator=optional(ge(1)))
    #: What the targets have there, so that losses and metrics leave it out.
    ignore_index: int = -100

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: a sample is no sequence of integers, has as many targets as it should not, or is longer than
                ``seq_len``.
        """
        fields = by_field(samples)
        tokens = read_tokens(fields["inputs"], "inputs")
        targets = read_tokens(fields["targets"], "targets") if "targets" in fields else tokens
        for row, (one, wanted) in enumerate(zip(tokens, targets, strict=True)):
            if len(one) != len(wanted):
                raise DataError(f"sample {row} of a batch has {len(one)} tokens and {len(wanted)} targets")
            if self.seq_len is not None and len(one) > self.seq_len:
                raise DataError(
                    f"sample {row} of a batch has {len(one)} tokens, but collator.seq_len is {self.seq_len}; "
                    "cut or divide it in the dataset"
                )
        inputs = pad_tokens(tokens, self.pad_token_id, self.seq_len)
        mask = real(tokens, inputs.shape[1])
        for row, own in enumerate(fields.get("mask", ())):
            if len(own) != len(tokens[row]):
                raise DataError(f"sample {row} of a batch has a mask of {len(own)} for {len(tokens[row])} tokens")
            mask[row, : len(own)] &= torch.as_tensor(own, dtype=torch.bool)
        batch = Batch(inputs=inputs, targets=pad_tokens(targets, self.ignore_index, inputs.shape[1]), mask=mask)
        if "meta" in fields:
            batch["meta"] = {key: gather(values) for key, values in fields["meta"].items()}
        return batch
