"""Collators of token sequences: for language models, and for an encoder with a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, final

import torch
from attrs import field, frozen
from attrs.validators import ge, optional
from torch import Tensor

from dovetail.data.batch import Batch
from dovetail.data.collators import as_tensor, collate_meta, collect_fields
from dovetail.data.errors import DataError
from dovetail.spec import AtLeast


@final
@frozen
class LanguageModelingCollator:
    """Pads tokens on the right; targets ignore the padding.

    The batch has ``inputs`` ``[batch, length]`` int64, ``mask`` of that shape (True where a token is real), ``targets``
    of that shape, and ``meta`` as from the default collator. Samples without targets get their inputs as targets; the
    loss ``language_modeling`` shifts those by one.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: Fills the inputs after the end of a text. Texts may contain the same token.
    pad_token_id: int = 0
    #: Length of every batch; None for the batch's longest text.
    seq_len: Annotated[int, AtLeast(1)] | None = field(default=None, validator=optional(ge(1)))
    #: Fills the targets after the end of a text, so that losses and metrics skip it.
    ignore_index: int = -100

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: a sample is not a sequence of integers, its targets or mask differ from it in length, or it is
                longer than ``seq_len``.
        """
        fields = collect_fields(samples)
        tokens = _read_tokens(fields["inputs"], "inputs")
        targets = _read_tokens(fields["targets"], "targets") if "targets" in fields else tokens
        for row, (text, wanted) in enumerate(zip(tokens, targets, strict=True)):
            if len(text) != len(wanted):
                raise DataError(f"sample {row} of a batch has {len(text)} tokens and {len(wanted)} targets")
            if self.seq_len is not None and len(text) > self.seq_len:
                raise DataError(
                    f"sample {row} of a batch has {len(text)} tokens, but collator.seq_len is {self.seq_len}; "
                    "truncate or divide it in the dataset"
                )
        inputs = _pad(tokens, self.pad_token_id, self.seq_len)
        mask = _length_mask(tokens, inputs.shape[1])
        for row, own in enumerate(fields.get("mask", ())):
            if len(own) != len(tokens[row]):
                raise DataError(f"sample {row} of a batch has a mask of {len(own)} for {len(tokens[row])} tokens")
            mask[row, : len(own)] &= torch.as_tensor(own, dtype=torch.bool)
        batch = Batch(inputs=inputs, targets=_pad(targets, self.ignore_index, inputs.shape[1]), mask=mask)
        if "meta" in fields:
            batch["meta"] = {key: collate_meta(values) for key, values in fields["meta"].items()}
        return batch


@final
@frozen
class SequenceToSequenceCollator:
    """Pads sources and targets on the right, each to its own longest.

    ``inputs`` is a dict, which the model receives as keyword arguments: ``input_ids`` and ``attention_mask`` (True
    where a token is real), both ``[batch, source length]``, and ``decoder_input_ids`` ``[batch, target length]``, the
    targets shifted right by one after ``decoder_start_token_id``. ``targets`` are ``[batch, target length]``, and
    ``mask``, of that shape, is True where they are real.
    """

    #: Draws no random numbers.
    deterministic: ClassVar[bool] = True

    #: Fills a sequence after its end.
    pad_token_id: int = 0
    #: The decoder's first token; None for ``pad_token_id``.
    decoder_start_token_id: int | None = None
    #: Fills the targets after their end, so that losses and metrics skip it.
    ignore_index: int = -100

    def __call__(self, samples: list[Any]) -> Batch:
        """Return the batch of ``samples``, in their order.

        Raises:
            DataError: a sample has no targets, or its source or target is not a sequence of integers.
        """
        fields = collect_fields(samples)
        if "targets" not in fields:
            raise DataError("samples have no targets; a sample is (source, target) or a dict with inputs and targets")
        if "mask" in fields:
            raise DataError("samples have a mask; this collator computes the masks of sources and targets itself")
        sources, targets = _read_tokens(fields["inputs"], "inputs"), _read_tokens(fields["targets"], "targets")
        ids, wanted = _pad(sources, self.pad_token_id), _pad(targets, self.ignore_index)
        inputs = {
            "input_ids": ids,
            "attention_mask": _length_mask(sources, ids.shape[1]),
            "decoder_input_ids": self._decoder_inputs(targets, wanted.shape[1]),
        }
        batch = Batch(inputs=inputs, targets=wanted, mask=_length_mask(targets, wanted.shape[1]))
        if "meta" in fields:
            batch["meta"] = {key: collate_meta(values) for key, values in fields["meta"].items()}
        return batch

    def _decoder_inputs(self, targets: list[Tensor], length: int) -> Tensor:
        """Return the targets shifted right by one: at each step, the target of the step before."""
        start = self.pad_token_id if self.decoder_start_token_id is None else self.decoder_start_token_id
        shifted = _pad(targets, self.pad_token_id, length).roll(1, dims=1)
        # The shift moves the last token of a shorter target behind its end; padding belongs there.
        shifted = shifted.where(_length_mask(targets, length), self.pad_token_id)
        shifted[:, :1] = start
        return shifted


def _read_tokens(values: Sequence[Any], name: str) -> list[Tensor]:
    """Return each sample's tokens as int64 ``[length]``; ``name`` is the field's, for messages."""
    sequences = []
    for number, value in enumerate(values):
        if isinstance(value, list) and all(isinstance(token, int) for token in value):
            tokens = torch.tensor(value, dtype=torch.int64)
        else:
            tokens = as_tensor(value, name)
        if tokens.ndim != 1 or tokens.is_floating_point() or tokens.is_complex() or tokens.dtype is torch.bool:
            kind = str(tokens.dtype).removeprefix("torch.")
            raise DataError(
                f"sample {number} of a batch has {name} of {kind} and shape {tuple(tokens.shape)}; "
                "tokens must be integers in one dimension"
            )
        sequences.append(tokens.long())
    return sequences


def _pad(sequences: Sequence[Tensor], value: int, length: int | None = None) -> Tensor:
    """Return int64 sequences as a tensor ``[samples, length]``; ``length`` is by default that of the longest."""
    longest = max(map(len, sequences)) if length is None else length
    padded = torch.full((len(sequences), longest), value, dtype=torch.int64)
    for row, tokens in enumerate(sequences):
        padded[row, : len(tokens)] = tokens
    return padded


def _length_mask(sequences: Sequence[Tensor], length: int) -> Tensor:
    """Return a bool tensor ``[samples, length]``, True where a sequence has a token."""
    return torch.arange(length) < torch.tensor([len(tokens) for tokens in sequences])[:, None]
