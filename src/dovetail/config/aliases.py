"""Names that other frameworks and documents use, and where each of them is in a run file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Other names of settings, by what they are here. Messages suggest them; the keyword arguments of ``Config`` take them.
#: A few are our own names: those that the documents give to another ``with_…`` method than their section's.
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
    # what is kept, and where
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

#: Settings that Dovetail itself does not have, and where they are to be had.
ELSEWHERE: Final[Mapping[str, str]] = {
    "environment": _CLOUD,
    "sagemaker_instance_count": _CLOUD,
    "sagemaker_instance_type": _CLOUD,
    "sagemaker_max_runtime": _CLOUD,
    "sagemaker_volume_size": _CLOUD,
    "mlflow_experiment": 'it comes with dovetail-trackers, as [trackers.mlflow] with type = "trackers.mlflow"',
    "wandb_project": 'it comes with dovetail-trackers, as [trackers.wandb] with type = "trackers.wandb"',
}
