"""Names that other frameworks and documents use for settings, and what to say about an unknown key."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Final

import attrs

from dovetail.config.diagnostics import nearest
from dovetail.config.notation import KeyPath, dotted, visible

#: Other names of settings, and the path of each setting here. Messages suggest the path; the keyword arguments of
#: ``Config`` take the names. A few names are our own: settings that the documents pass to a ``with_…`` method of
#: another section.
ALIASES: Final[Mapping[str, str]] = {
    # how long, how much
    "epochs": "training.max_epochs",
    "num_epochs": "training.max_epochs",
    "num_train_epochs": "training.max_epochs",
    "batch_size": "loader.batch_size",
    "accumulate": "training.accumulate",
    "accumulate_grad_batches": "training.accumulate",
    "accumulation_steps": "training.accumulate",
    "gradient_accumulation_steps": "training.accumulate",
    # the learning rate
    "learning_rate": "optimizer.lr",
    "lr": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "betas": "optimizer.betas",
    "weight_decay": "optimizer.weight_decay",
    "warmup_ratio": "scheduler.warmup",
    # clipping and precision
    "clip_grad_norm": "training.max_grad_norm",
    "grad_clip": "training.max_grad_norm",
    "gradient_clip_norm": "training.max_grad_norm",
    "gradient_clip_val": "training.max_grad_norm",
    "max_grad_norm": "training.max_grad_norm",
    "amp": "training.precision",
    "mixed_precision": "training.precision",
    "use_amp": "training.precision",
    "compile_mode": "hardware.compile",
    "precision": "training.precision",
    # data
    "dataset_folder": "data.path",
    "metadata_file": "data.metadata",
    "age_group_size": "data.split.bin_size",
    "stratify_by_age": "data.split.stratify",
    "test_split": "data.split.test",
    "train_split": "data.split.train",
    "val_split": "data.split.validation",
    "validation_split": "data.split.validation",
    # how often
    "checkpoint_frequency": "checkpoint.every",
    "eval_frequency": "training.validate_every",
    "log_every_n_steps": "logging.every",
    "log_frequency": "logging.every",
    "plot_frequency": "report.every",
    "save_every_n_epochs": "checkpoint.every",
    "validation_frequency": "training.validate_every",
    # output files
    "checkpoint_dir": "paths.models",
    "log_save_path": "paths.logs",
    "model_save_path": "paths.models",
    "output_dir": "paths.output",
    "save_best_only": "checkpoint.best_only",
    "save_plots": "report.plots",
    "save_top_k": "checkpoint.keep_best",
    # names
    "experiment_name": "run.experiment",
    "job_name": "run.name",
    "model_name": "run.experiment",
    "random_seed": "run.seed",
    "run_name": "run.name",
    # stopping
    "early_stopping_min_delta": "callbacks.early_stopping.min_delta",
    "early_stopping_patience": "callbacks.early_stopping.patience",
}

_CLOUD: Final = "a run is local; training on rented machines comes with dovetail-cloud"

#: Settings that Dovetail itself does not have, and which package has them.
ELSEWHERE: Final[Mapping[str, str]] = {
    "environment": _CLOUD,
    "sagemaker_instance_count": _CLOUD,
    "sagemaker_instance_type": _CLOUD,
    "sagemaker_max_runtime": _CLOUD,
    "sagemaker_volume_size": _CLOUD,
    "mlflow_experiment": 'it comes with dovetail-trackers, as [trackers.mlflow] with type = "trackers.mlflow"',
    "wandb_project": 'it comes with dovetail-trackers, as [trackers.wandb] with type = "trackers.wandb"',
}

_MOST_LISTED: Final = 24  # names in one message


def unknown_key(table: KeyPath, name: str, known: Collection[str], owner: str) -> str:
    """Return the message about an unknown key.

    It suggests, in order of preference: the setting that ``name`` is an alias of; the one place that has a setting of
    exactly this name; the nearest key of the table. Otherwise it lists the keys of the table.

    Args:
        table: the path of the table; empty for a run file itself.
        name: the unknown key.
        known: the keys of the table.
        owner: whose keys they are: "loss 'focal'".
    """
    what = "unknown key" if table else "unknown section"
    if name in ELSEWHERE:
        return f"{what}; {ELSEWHERE[name]}"
    meant = _elsewhere(dotted(table), name, known) or nearest(name, known)
    return f"{what}; did you mean '{meant}'?" if meant else f"{what}; {owner} {_takes(known)}"


def _takes(known: Collection[str]) -> str:
    """Return "takes a, b, c" or "takes nothing", with two dozen names at most."""
    if not known:
        return "takes nothing"
    names = sorted(map(visible, known))
    return f"takes {', '.join(names[:_MOST_LISTED])}{', …' if len(names) > _MOST_LISTED else ''}"


def _elsewhere(table: str, name: str, known: Collection[str]) -> str | None:
    folded = name.casefold().replace("-", "_")
    home, _, key = ALIASES.get(folded, "").rpartition(".")
    if key in known:
        return key
    if (key and home == table) or folded in known:  # the latter differs only in case or hyphens
        return None
    places = _places().get(folded, ())
    if len(places) == 1 and places[0] != f"{table}.{name}".lstrip("."):
        return places[0]
    return f"{home}.{key}" if key else None


@cache
def _places() -> dict[str, list[str]]:
    """Return the paths of all settings by their names; the path of a section is its own name."""
    from dovetail.config.schema import sections

    places: dict[str, list[str]] = defaultdict(list)
    for section in sections():
        places[section.name].append(section.name)
        inner: Any = section.type
        if isinstance(inner, type) and attrs.has(inner):
            for field in attrs.fields(inner):
                places[field.name].append(f"{section.name}.{field.name}")
    return places
