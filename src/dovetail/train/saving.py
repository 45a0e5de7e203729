"""What a checkpoint holds, and taking the best weights back from one."""

from __future__ import annotations

import logging
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
    """Give model, average and loss the weights of the best checkpoint that is whole; without one they keep theirs."""
    for checkpoint in run.checkpoints.ranked():
        try:
            model, others = read_model(checkpoint.path), _other_weights(run, checkpoint.path)
        except CheckpointError as error:
            _logger.warning("passing over a damaged checkpoint: %s", error)
            continue
        run.parts.model.load_state_dict(model)
        for part, state in others:
            part.load_state_dict(state)
        return


def _other_weights(run: Run, checkpoint: Any) -> list[tuple[Any, Any]]:
    """Read what else is evaluated, if anything is; the optimizer's state beside it may be large."""
    loss, ema = run.parts.loss, run.parts.ema
    wanted: dict[str, Any] = {} if ema is None else {"ema": ema}
    if isinstance(loss, nn.Module) and loss.state_dict():
        wanted["loss"] = loss
    saved = read_checkpoint(checkpoint) if wanted else {}
    return [(part, saved[name]) for name, part in wanted.items()]
