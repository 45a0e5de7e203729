"""The traits that mean something to the kit or to a run. A component may claim others; nobody looks at them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TRAITS: Final[Mapping[str, str]] = {
    "additive": "loss: the loss of a batch is the weighted mean of the losses of its parts",
    "atomic": "storage: an object is there whole or not at all, which every store must hold",
    "batched": "transform: it takes whole batches on the device, and draws by address",
    "classification": "takes class scores and integer labels",
    "couples_samples": "model: in evaluation a sample's output depends on the others of its batch",
    "cycles_momentum": "scheduler: it moves momentum along with the learning rate",
    "deterministic": "the same input gives the same output, whatever the random generators did",
    "differentiable": "loss: its gradient is that of its value, which holds unless it has a surrogate gradient",
    "every_split": "transform: it belongs to evaluation as much as to training",
    "fitted": "transform: fit(samples) is called with the training split before the first sample",
    "hidden_gradient": "loss: a gradient reaches the model's hidden representation",
    "keeps_samples": "collator: every sample arrives, which every collator must hold",
    "language_modeling": "takes token scores and tokens",
    "mixes_samples": "collator, transform: a row of the batch is made of several samples",
    "one_group": "optimizer: it updates one group of parameters, and refuses several",
    "ordered": "loss: the order of the samples has a meaning",
    "per_epoch": "scheduler: it steps once per epoch",
    "random": "transform: it draws from the global generators",
    "regression": "takes predictions and targets of one shape",
    "signal_gradient": "loss: a gradient reaches the batch's inputs",
    "soft_labels": "takes class scores and class probabilities",
    "stateful": "loss: it depends on the batches before, on purpose",
    "surrogate_gradient": "loss: its gradient is another function's, on purpose",
    "variable_length": "collator: it takes samples that differ in length",
}
