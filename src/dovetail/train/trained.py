"""The model of a run, to be used: built as the run built it, with the weights of a checkpoint."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from torch import nn

from dovetail.checkpoint.weights import fit, read_weights
from dovetail.config.compose import compose
from dovetail.config.structure import structure_part
from dovetail.data.seeding import KeptGlobals
from dovetail.kernel.build import build
from dovetail.kernel.plugins import Plugins
from dovetail.record.layout import RESOLVED
from dovetail.record.runs import RunLookupError, load_run, table
from dovetail.train.saved import find_saved


def load_model(
    run: str | PathLike[str],
    checkpoint: str = "best",
    *,
    ema: bool | None = None,
    model: nn.Module | None = None,
    output: str | PathLike[str] = "runs",
    plugins: Plugins | None = None,
) -> nn.Module:
    """Return the trained model of a run, on the CPU and ready to predict: ``eval()`` has been called.

    Neither the run's data nor any part but its model need be there. Every byte that is read is verified, and no code is
    run but that of the model.

    Example::

        model = dovetail.load_model("latest")
        classes = model(inputs).argmax(dim=1)

    Args:
        run: the run's folder, such as ``outcome.folder``; or as for ``dovetail runs show``: ``latest``, its name, its
            id or the beginning of that; or the path of one of its checkpoints.
        checkpoint: ``best``, and the last where there is no best one; ``last``; or the name of one, such as
            ``step-00001200``.
        ema: True for the moving average of the weights (``training.ema_decay``), False for those that were trained.
            None for those that were validated, by which the checkpoint is the best.
        model: given the weights, where the run's model was an object of Python.
        output: the folder of all runs, unless ``run`` is a path.
        plugins: where the model is looked up; what is installed unless given.

    Raises:
        RunLookupError: there is no such run or checkpoint; or it is no run's, and ``model`` is not given.
        ConfigError: the run's model is not installed here, or was an object of Python and is not given.
        BuildError: the model cannot be built.
        CheckpointError: the checkpoint is damaged, or its weights are not those of this model.
    """
    saved = find_saved(str(run), Path(output))
    chosen = saved.choose(checkpoint)
    if model is None:
        if saved.run is None:
            raise RunLookupError(f"{chosen} is not of a run, which would say what model it is of: give model=")
        model = _built(saved.run, Plugins.discover() if plugins is None else plugins)
    fit(model, read_weights(chosen, ema=ema), chosen)
    return model.eval()


def _built(run: Path, plugins: Plugins) -> nn.Module:
    """Build a run's model from what its folder says of it, and of its data."""
    tree = compose(run / RESOLVED)
    said = dict(table(load_run(run).data.get("data")))
    if isinstance(said.get("input_shape"), list):
        said["input_shape"] = tuple(said["input_shape"])
    seed = tree.table["run"].table["seed"].value
    with KeptGlobals():
        model: nn.Module = build(structure_part(tree, "model", plugins), {"seed": seed, **said})
    return model
