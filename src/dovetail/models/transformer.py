"""A causal transformer like GPT-2.

Radford et al., «Language models are unsupervised multitask learners», 2019: learned positions, pre-norm blocks, output
weights tied to the token embedding.
"""

from __future__ import annotations

import math
from typing import Annotated, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dovetail.models.layers import Size, check_fraction, check_sizes
from dovetail.spec import Between

_INIT_STD: Final = 0.02


class CausalTransformer(nn.Module):
    """Predicts each token from the tokens before it.

    With the defaults and GPT-2's vocabulary of 50,257 it has 124 million parameters; with ``d_model = 192,
    num_layers = 6, num_heads = 6, d_ff = 768`` it has 12 million.

    Pad on the right: a position attends only to itself and to earlier ones, so padding after a text does not change the
    text's outputs, and the model needs no mask. The loss must leave the padding out.

    Args:
        vocab_size: number of distinct tokens; the dataset provides it.
        d_model: size of a token's vector.
        num_layers: number of blocks, each of attention and a feed-forward layer.
        num_heads: attention heads per block; must divide ``d_model``.
        d_ff: size of the feed-forward layer inside a block.
        max_seq_len: maximum length of a text, in tokens.
        dropout: fraction of embedded, attended and residual values set to zero in training, 0 to 1.
        tie_embeddings: whether the output layer is the token embedding itself.

    Raises:
        ValueError: a size is below 1, or ``num_heads`` does not divide ``d_model``.
    """

    def __init__(
        self,
        vocab_size: Size,
        *,
        d_model: Size = 768,
        num_layers: Size = 12,
        num_heads: Size = 12,
        d_ff: Size = 3072,
        max_seq_len: Size = 512,
        dropout: Annotated[float, Between(0, 1)] = 0.1,
        tie_embeddings: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(
            vocab_size=[vocab_size],
            d_model=[d_model],
            num_layers=[num_layers],
            num_heads=[num_heads],
            d_ff=[d_ff],
            max_seq_len=[max_seq_len],
        )
        check_fraction("dropout", dropout)
        if d_model % num_heads:
            raise ValueError(f"num_heads: {num_heads} heads do not divide d_model = {d_model}")
        self.vocab_size = vocab_size
        self.max_seq_len = max_seq_len
        self.tokens = nn.Embedding(vocab_size, d_model)
        self.positions = nn.Embedding(max_seq_len, d_model)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(_Block(d_model, num_heads, d_ff, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, vocab_size, bias=False)
        self._initialise(num_layers)
        if tie_embeddings:
            self.output.weight = self.tokens.weight
        self._checked = False

    def _initialise(self, num_layers: int) -> None:
        """Initialise weights like GPT-2: residual layers are scaled so that their sum has the variance of one layer."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.ndim > 1:
                residual = name.endswith(("project.weight", "contract.weight"))
                scale = 1 / math.sqrt(2 * num_layers) if residual else 1.0
                nn.init.normal_(parameter, std=_INIT_STD * scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``[batch, time, vocab_size]`` of token ids ``[batch, time]``.

        Raises:
            ValueError: the ids are not integers, the text is too long, or an id is not in the vocabulary. (Except on
                the CPU, only the first batch is checked for such ids, because the check syncs with the device.)
        """
        self._check(inputs)
        hidden = self._embed(inputs) + self.positions.weight[: inputs.shape[1]]
        hidden = self.dropout(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.output(self.norm(hidden))
        return logits

    def _check(self, inputs: Tensor) -> None:
        if inputs.ndim != len(("batch", "time")) or inputs.is_floating_point():
            raise ValueError(
                f"transformer: takes integer token ids [batch, time], got {inputs.dtype} of shape {list(inputs.shape)}"
            )
        if inputs.shape[1] > self.max_seq_len:
            raise ValueError(
                f"transformer: a text of {inputs.shape[1]} tokens is longer than "
                f"max_seq_len = {self.max_seq_len}; truncate it, or raise max_seq_len"
            )

    def _embed(self, inputs: Tensor) -> Tensor:
        """Return the tokens' vectors. A bad id on a GPU would abort the process, so check the first batch."""
        compiling = torch.compiler.is_compiling()
        if not (self._checked or compiling or inputs.is_cpu or inputs.is_meta):
            self._check_ids(inputs)
            self._checked = True
        try:
            embedded: Tensor = self.tokens(inputs)
        except IndexError:
            self._check_ids(inputs)
            raise
        return embedded

    def _check_ids(self, inputs: Tensor) -> None:
        wrong = inputs[(inputs < 0) | (inputs >= self.vocab_size)]
        if wrong.numel():
            raise ValueError(
                f"transformer: token {int(wrong[0])} is not in the vocabulary (0 to {self.vocab_size - 1})"
            )


class _Block(nn.Module):
    """Attention and a feed-forward layer, each with layer norm before it and a residual connection around it."""

    def __init__(self, d_model: int, num_heads: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = _CausalAttention(d_model, num_heads, dropout)
        self.feed_norm = nn.LayerNorm(d_model)
        self.expand = nn.Linear(d_model, d_ff)
        self.contract = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the block's output, of the input's shape ``[batch, time, d_model]``."""
        attended: Tensor = self.dropout(self.attention(self.attention_norm(hidden)))
        hidden = hidden + attended
        fed: Tensor = self.contract(F.gelu(self.expand(self.feed_norm(hidden)), approximate="tanh"))
        output: Tensor = hidden + self.dropout(fed)
        return output


class _CausalAttention(nn.Module):
    """Attention of each position to itself and to earlier ones."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.read = nn.Linear(d_model, 3 * d_model)
        self.project = nn.Linear(d_model, d_model)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the attention output, of the input's shape ``[batch, time, d_model]``."""
        heads = self.read(hidden).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(
            heads[0], heads[1], heads[2], dropout_p=self.dropout if self.training else 0.0, is_causal=True
        )
        projected: Tensor = self.project(attended.transpose(1, 2).flatten(2))
        return projected
