"""What a checkpoint holds, and taking the best weights back from one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from dovetail.checkpoint.errors import CheckpointError
from dovetail.checkpoint.format import read_checkpoint, read_model
from dovetail.train.seeds import rng_state

if TYPE_CHECKING:
    from dovetail.train.context import Run
    from dovetail.train.tape import LossTape

_logger = logging.getLogger("dovetail.train")


def collect_state(run: Run, tape: LossTape) -> dict[str, Any]:
    """Return everything that a resumed run needs: each part's state under its config path, and where training is."""
    tree: dict[str, Any] = {
        "training": {"state": run.state.state_dict(), "losses": tape.state_dict()},
        "rng": rng_state(),
    }
    for path, part in run.parts.named():
        if callable(getattr(part, "state_dict", None)):
            table, _, name = path.rpartition(".")
            (tree.setdefault(table, {}) if table else tree)[name] = part.state_dict()
    return tree


def restore_best(run: Run) -> None:
    """Give the model, and the loss, the weights of the best checkpoint that is whole; without one they keep theirs."""
    for checkpoint in run.checkpoints.ranked():
        try:
            model, loss = read_model(checkpoint.path), _loss_state(run, checkpoint.path)
        except CheckpointError as error:
            _logger.warning("passing over a damaged checkpoint: %s", error)
            continue
        run.parts.model.load_state_dict(model)
        if loss is not None:
            run.parts.loss.load_state_dict(loss)
        return


def _loss_state(run: Run, checkpoint: Any) -> Mapping[str, Any] | None:
    """Read the state of a loss that has any; that of the optimizer beside it may be large, so it is read only then."""
    has_state = isinstance(run.parts.loss, nn.Module) and bool(run.parts.loss.state_dict())
    return read_checkpoint(checkpoint)["loss"] if has_state else None
