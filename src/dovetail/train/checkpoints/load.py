"""Loading the trained model of a run: built as the run built it, with the weights of a checkpoint."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import nn

from dovetail.checkpoint.weights import load_state, read_weights
from dovetail.config.check import check_part
from dovetail.config.compose import compose
from dovetail.data.seeding import preserve_rngs
from dovetail.kernel.build import build
from dovetail.record.layout import RESOLVED
from dovetail.record.runs import RunLookupError, as_table, load_run
from dovetail.spec.plugins import Plugins
from dovetail.train.checkpoints.lookup import find_saved


def load_model(
    run: str | PathLike[str],
    checkpoint: str = "best",
    *,
    ema: bool | None = None,
    model: nn.Module | None = None,
    output: str | PathLike[str] = "runs",
    plugins: Plugins | None = None,
) -> nn.Module:
    """Return the trained model of a run, on the CPU and in evaluation mode.

    It needs neither the run's data nor any other part. Every byte that is read is verified, and only the model's own
    code runs.

    Example::

        model = dovetail.load_model("latest")
        classes = model(inputs).argmax(dim=1)

    Args:
        run: the run's folder, such as ``outcome.folder``; ``latest``, the run's name, its id or the beginning of it, as
            for ``dovetail runs show``; or the path of one of its checkpoints.
        checkpoint: ``best``, or the last if there is no best one; ``last``; or a name such as ``step-00001200``.
        ema: True for the moving average of the weights (``training.ema_decay``), False for the trained weights, None
            for those that were validated.
        model: the model to load the weights into, if the run's model was a Python object.
        output: the folder of all runs, unless ``run`` is a path.
        plugins: the plugins to look the model up in; by default the installed ones.

    Raises:
        RunLookupError: there is no such run or checkpoint; or the checkpoint belongs to no run, and ``model`` is None.
        ConfigError: the run's model is not installed here, or was a Python object, and ``model`` is None.
        BuildError: the model cannot be built.
        CheckpointError: the checkpoint is damaged, or its weights do not fit the model.
    """
    saved = find_saved(str(run), Path(output))
    chosen = saved.choose(checkpoint)
    if model is None:
        if saved.run is None:
            raise RunLookupError(f"{chosen} belongs to no run, so its model is unknown: pass model=")
        model = _built(saved.run, Plugins.discover() if plugins is None else plugins)
    load_state(model, read_weights(chosen, ema=ema), chosen)
    return model.eval()


def _built(run: Path, plugins: Plugins) -> nn.Module:
    """Build a run's model from the settings and the facts about its data in its folder."""
    tree = compose(run / RESOLVED)
    facts = dict(as_table(load_run(run).data.get("data")))
    if isinstance(facts.get("input_shape"), list):
        facts["input_shape"] = tuple(facts["input_shape"])
    seed = tree.table["run"].table["seed"].value
    with preserve_rngs():
        model: nn.Module = build(check_part(tree, "model", plugins), {"seed": seed, **facts})
    return model
