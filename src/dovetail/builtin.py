"""Dovetail's own plugin: it registers parts through the same hooks and entry-point group as any other plugin."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail.kernel.component import Component
from dovetail.spec.hooks import hookimpl

_CLASS_LOSS = ("deterministic", "differentiable", "additive", "classification")
_VALUE_LOSS = ("deterministic", "differentiable", "additive", "regression")


@hookimpl
def dovetail_losses() -> Iterator[Component]:
    """Register losses."""
    yield Component(
        "cross_entropy",
        "dovetail.losses.classification:cross_entropy",
        summary='Cross-entropy of class logits, with class weights (a list or "balanced") and label smoothing.',
        traits=(*_CLASS_LOSS, "soft_labels"),
    )
    yield Component(
        "focal",
        "dovetail.losses.focal:FocalLoss",
        summary="Focal loss: cross-entropy that down-weights samples the model already classifies well.",
        traits=(*_CLASS_LOSS, "soft_labels"),
    )
    yield Component(
        "label_smoothing",
        "dovetail.losses.classification:LabelSmoothingCrossEntropy",
        summary="Cross-entropy with label smoothing: the targets give every class some probability.",
        traits=(*_CLASS_LOSS, "soft_labels"),
    )
    yield Component(
        "language_modeling",
        "dovetail.losses.language_modeling:LanguageModelingLoss",
        summary="Next-token cross-entropy, averaged over all tokens but padding and ignored ones.",
        traits=("deterministic", "differentiable", "additive", "language_modeling"),
    )
    yield Component(
        "classification",
        "dovetail.losses.classification:ClassificationLoss",
        summary="Cross-entropy for one integer label per sample, with class weights; refuses other targets.",
        traits=_CLASS_LOSS,
    )
    yield Component(
        "vision",
        "dovetail.losses.vision:VisionLoss",
        summary="A loss for images: classification, segmentation or detection.",
        traits=_CLASS_LOSS,
    )
    yield Component(
        "peft_aware",
        "dovetail.losses.peft:PEFTAwareLoss",
        summary="Wraps a loss for fine-tuning adapters: scales it, and alerts if no or all parameters train.",
        traits=(*_CLASS_LOSS, "language_modeling"),
    )
    yield Component(
        "quantization_safe",
        "dovetail.losses.quantization_safe:QuantizationSafeLoss",
        summary="Wraps a loss: computes it in fp32 and clips its gradient to the range of an 8- or 4-bit quantiser.",
        traits=("deterministic", "surrogate_gradient", "additive", "classification", "language_modeling"),
    )
    yield Component(
        "supcon",
        "dovetail.losses.supcon:SupConLoss",
        summary="Supervised contrastive loss: pulls embeddings of a class together and pushes others away.",
        traits=("deterministic", "differentiable", "classification"),
    )
    yield Component(
        "physics_informed",
        "dovetail.losses.physics_informed:PhysicsInformedLoss",
        summary="The weighted sum of a data loss and a physics loss.",
        traits=("deterministic", "differentiable", "classification", "regression"),
    )
    yield Component(
        "distillation",
        "dovetail.losses.distillation:DistillationLoss",
        summary="Learn from labels and from a teacher's class probabilities; use with the trainer distillation.",
        traits=(*_CLASS_LOSS, "soft_labels"),
    )
    yield Component("mse", "torch.nn:MSELoss", summary="Mean squared error.", traits=_VALUE_LOSS)
    yield Component(
        "huber",
        "torch.nn:HuberLoss",
        summary="Squared error for small residuals, absolute error for large ones.",
        traits=_VALUE_LOSS,
    )
    yield Component("l1", "torch.nn:L1Loss", summary="Mean absolute error.", traits=_VALUE_LOSS)


@hookimpl
def dovetail_models() -> Iterator[Component]:
    """Register models."""
    yield Component(
        "mlp",
        "dovetail.models.mlp:MLP",
        summary="A multilayer perceptron on flattened samples.",
        example={"hidden_dims": [32]},
    )
    yield Component(
        "encoder",
        "dovetail.models.mlp:Encoder",
        summary="A fully connected encoder to a latent vector, with a classification or regression head.",
        example={"encoder_dim": 32, "hidden_dims": [16], "latent_dim": 8},
    )
    yield Component(
        "cnn",
        "dovetail.models.cnn:CNN",
        summary="A small convolutional network for images.",
        example={"channels": [8, 16]},
    )
    yield Component(
        "transformer",
        "dovetail.models.transformer:CausalTransformer",
        summary="A GPT-style causal language model.",
        example={"vocab_size": 64, "d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "max_seq_len": 16},
    )


@hookimpl
def dovetail_optimizers() -> Iterator[Component]:
    """Register optimizers and their presets."""
    yield Component(
        "adamw",
        "dovetail.optimizers:adamw",
        summary="AdamW (lr 1e-3, weight decay 0.01), fused where possible.",
    )
    yield Component(
        "adam",
        "dovetail.optimizers:adam",
        summary="Adam (lr 1e-3, no weight decay), fused where possible.",
    )
    yield Component(
        "sgd",
        "dovetail.optimizers:sgd",
        summary="SGD with Nesterov momentum (lr 1e-2, momentum 0.9).",
    )
    yield Component(
        "rmsprop",
        "dovetail.optimizers:rmsprop",
        summary="RMSprop (lr 1e-3, alpha 0.99, weight decay 1e-5).",
    )
    yield Component(
        "lbfgs",
        "dovetail.optimizers.factories:lbfgs",
        summary="L-BFGS with a line search, for noise-free losses; evaluates the loss several times per update.",
        traits=("one_group",),
    )
    yield Component(
        "default",
        "dovetail.optimizers:default",
        summary="Preset: AdamW, lr 1e-3, weight decay 1e-4.",
    )
    yield Component(
        "fast_convergence",
        "dovetail.optimizers:fast_convergence",
        summary="Preset: AdamW with three times the learning rate.",
    )
    yield Component(
        "strong_regularization",
        "dovetail.optimizers:strong_regularization",
        summary="Preset: AdamW with ten times the weight decay.",
    )
    yield Component(
        "sgd_baseline",
        "dovetail.optimizers:sgd_baseline",
        summary="Preset: SGD, lr 1e-2, Nesterov momentum 0.9, weight decay 1e-4.",
    )


@hookimpl
def dovetail_schedulers() -> Iterator[Component]:
    """Register learning-rate schedulers."""
    yield Component(
        "step",
        "dovetail.schedulers:step",
        summary="Multiply the learning rate by gamma every step_size epochs.",
        traits=("per_epoch",),
    )
    yield Component(
        "exponential",
        "dovetail.schedulers:exponential",
        summary="Multiply the learning rate by gamma every epoch.",
        traits=("per_epoch",),
    )
    yield Component(
        "cosine",
        "dovetail.schedulers:cosine",
        summary="Lower the learning rate along half a cosine over T_max epochs (default: the run).",
        traits=("per_epoch",),
    )
    yield Component(
        "plateau",
        "dovetail.schedulers:plateau",
        summary="Reduce the learning rate when the monitored metric stops improving.",
        traits=("per_epoch",),
    )
    yield Component(
        "warmup_cosine",
        "dovetail.schedulers.warmup:warmup_cosine",
        summary="Linear warm-up, then cosine decay to the end of the run.",
    )
    yield Component(
        "warmup",
        "dovetail.schedulers:linear_warmup",
        summary="Linear warm-up, then a constant learning rate.",
    )
    yield Component(
        "warmup_linear",
        "dovetail.schedulers.warmup:warmup_linear",
        summary="Linear warm-up, then linear decay to 0 at the end of the run.",
    )
    yield Component(
        "with_warmup",
        "dovetail.schedulers.warmup_scheduler:with_warmup",
        summary="Linear warm-up before any other scheduler, its base_scheduler.",
        traits=("per_epoch",),
        example={"base_scheduler": {"type": "dovetail:cosine"}},
    )
    yield Component(
        "warm_restarts",
        "dovetail.schedulers.annealing:warm_restarts",
        summary="Repeated half cosines, each T_mult times as long as the previous one.",
        traits=("per_epoch",),
    )
    yield Component(
        "polynomial",
        "dovetail.schedulers.decay:polynomial",
        summary="Decay the learning rate as a power of the remaining time.",
        traits=("per_epoch",),
    )
    yield Component(
        "one_cycle",
        "dovetail.schedulers.cycle:one_cycle",
        summary="One cycle: the learning rate rises to its maximum and falls far below its start; momentum mirrors it.",
        traits=("cycles_momentum",),
    )
    yield Component(
        "noam",
        "dovetail.schedulers:noam",
        summary="The transformer's schedule: linear warm-up, then inverse square root decay; set optimizer.lr = 1.",
    )


@hookimpl
def dovetail_metrics() -> Iterator[Component]:
    """Register metrics."""
    yield Component(
        "accuracy",
        "dovetail.metrics.accuracy:Accuracy",
        summary="Fraction of labels predicted correctly, or among the top k.",
    )
    yield Component(
        "confidence",
        "dovetail.metrics.confidence:Confidence",
        summary="The model's confidence: probability of the top class and the top five, and entropy.",
    )
    yield Component(
        "f1",
        "dovetail.metrics.per_class:F1",
        summary="F1 score: macro, micro, weighted, or one per class.",
    )
    yield Component(
        "confusion_matrix",
        "dovetail.metrics.confusion_matrix:ConfusionMatrix",
        summary="Counts of true class (rows) against predicted class (columns).",
    )
    yield Component(
        "per_class",
        "dovetail.metrics.per_class:PerClass",
        summary="Precision, recall, F1 and support of every class.",
    )
    yield Component(
        "mae", "dovetail.metrics.regression:MeanAbsoluteError", summary="Mean absolute error.", traits=("regression",)
    )
    yield Component(
        "mse", "dovetail.metrics.regression:MeanSquaredError", summary="Mean squared error.", traits=("regression",)
    )
    yield Component(
        "r2",
        "dovetail.metrics.regression:R2",
        summary="Coefficient of determination: 1 is perfect, 0 is no better than predicting the mean.",
        traits=("regression",),
    )


@hookimpl
def dovetail_datasets() -> Iterator[Component]:
    """Register datasets."""
    yield Component(
        "digits",
        "dovetail.data.array_datasets:digits",
        summary="scikit-learn's bundled 8x8 handwritten digits: 1,797 images, 10 classes, values 0 to 1.",
        traits=("deterministic", "classification"),
        example={},
    )
    yield Component(
        "csv",
        "dovetail.data.table:csv_table",
        summary="A CSV file: one row per sample, a target column, and numeric feature columns or one text column.",
        traits=("deterministic", "classification", "regression"),
        example={"path": "data.csv", "target": "label"},
    )
    yield Component(
        "jsonl",
        "dovetail.data.table:jsonl_table",
        summary="A JSON Lines file: one object per line, a target key, and numeric feature keys or one text key.",
        traits=("deterministic", "classification", "regression"),
        example={"path": "data.jsonl", "target": "label", "text": "text"},
    )
    yield Component(
        "npz",
        "dovetail.data.array_datasets:npz_arrays",
        summary="A NumPy .npz archive: an array of inputs, an array of targets, and other arrays as columns.",
        traits=("deterministic", "classification", "regression"),
        example={"path": "data.npz", "inputs": "inputs", "targets": "targets"},
    )
    yield Component(
        "folder",
        "dovetail.data.folders:folder",
        summary="A folder of .npz, .npy or .csv arrays and a metadata CSV that names each file and its label.",
        traits=("deterministic", "classification", "regression"),
        example={"path": "recordings", "target": "label"},
    )
    yield Component(
        "characters",
        "dovetail.data.character_windows:characters",
        summary="One text file, in windows for next-character prediction; 90 % for training, the rest for validation.",
        traits=("deterministic", "language_modeling"),
        example={"path": "input.txt"},
    )


@hookimpl
def dovetail_collators() -> Iterator[Component]:
    """Register collators."""
    yield Component(
        "default",
        "dovetail.data.collators:DefaultCollator",
        summary="Stack samples of equal shape; anything besides inputs and targets becomes meta.",
        traits=("deterministic", "keeps_samples"),
    )
    yield Component(
        "classification",
        "dovetail.data.collators:ClassificationCollator",
        summary="Right-pad inputs to the longest of the batch, with a mask and int64 class targets.",
        traits=("deterministic", "keeps_samples", "variable_length"),
    )
    yield Component(
        "language_modeling",
        "dovetail.data.token_collators:LanguageModelingCollator",
        summary="Right-pad tokens, and ignore the padding in the targets.",
        traits=("deterministic", "keeps_samples", "variable_length"),
    )
    yield Component(
        "sequence_to_sequence",
        "dovetail.data.token_collators:SequenceToSequenceCollator",
        summary="Right-pad sources and targets, each to its longest, for encoder-decoder models.",
        traits=("deterministic", "keeps_samples", "variable_length"),
    )
    yield Component(
        "vision",
        "dovetail.data.vision:VisionCollator",
        summary="Normalise images, and resize or pad them to one size.",
        traits=("deterministic", "keeps_samples", "variable_length"),
    )


@hookimpl
def dovetail_transforms() -> Iterator[Component]:
    """Register transforms of single samples."""
    yield Component(
        "normalize",
        "dovetail.data.transforms:Normalize",
        summary="Subtract a given mean and divide by a given standard deviation, per channel or overall.",
        traits=("deterministic", "every_split"),
        example={"mean": 0.5, "std": 0.25},
    )
    yield Component(
        "standardize",
        "dovetail.data.transforms:Standardize",
        summary="Normalise by the mean and standard deviation of the training split, per channel.",
        traits=("deterministic", "every_split", "fitted"),
    )
    yield Component(
        "gaussian_noise",
        "dovetail.data.transforms:GaussianNoise",
        summary="Add Gaussian noise to the inputs.",
        traits=("random",),
        example={"std": 0.05},
    )
    yield Component(
        "spec_augment",
        "dovetail.data.masking:SpecAugment",
        summary="SpecAugment: mask frequency bands and time spans of a spectrogram.",
        traits=("random",),
    )
    yield Component(
        "time_masking",
        "dovetail.data.masking:TimeMasking",
        summary="Set random time spans of a signal to 0.",
        traits=("random",),
    )


@hookimpl
def dovetail_storage_backends() -> Iterator[Component]:
    """Register storage backends."""
    yield Component(
        "local",
        "dovetail.storage.local:LocalStorage",
        summary="A local folder with atomic writes: an object is there completely or not at all.",
        traits=("atomic",),
        example={"path": "store"},
    )


@hookimpl
def dovetail_trainers() -> Iterator[Component]:
    """Register trainers."""
    yield Component(
        "standard",
        "dovetail.train.trainer:StandardTrainer",
        summary="The standard trainer: epochs and steps, validation, checkpoints, five seams to override.",
    )
    yield Component(
        "distillation",
        "dovetail.train.distillation:DistillationTrainer",
        summary="Train a student on a teacher's outputs; use with the loss distillation.",
        example={"teacher_model": {"type": "dovetail:mlp", "input_shape": [2], "hidden_dims": [8]}},
    )


@hookimpl
def dovetail_callbacks() -> Iterator[Component]:
    """Register callbacks."""
    yield Component(
        "early_stopping",
        "dovetail.train.callbacks.early_stopping:EarlyStopping",
        summary="Stop when a metric has not improved for a number of epochs.",
        traits=("deterministic",),
    )
    yield Component(
        "metric_logger",
        "dovetail.train.callbacks.metric_logger:MetricLogger",
        summary="Write the metrics of every epoch to a separate JSON-lines file.",
        example={"log_file": "metrics.jsonl"},
    )
    yield Component(
        "timing",
        "dovetail.train.callbacks.timing:timing",
        summary="Measure the time of every epoch and update.",
    )
    yield Component(
        "gradient_monitor",
        "dovetail.monitor.gradients:GradientMonitor",
        summary="Check the gradients of every update: vanishing, exploding, NaN.",
        traits=("deterministic",),
    )
    yield Component(
        "drift_monitor",
        "dovetail.monitor.drift_monitor:DriftMonitor",
        summary="Compare validation data with the training set, or with a saved profile, feature by feature.",
        traits=("deterministic",),
    )
    yield Component(
        "alerts",
        "dovetail.monitor.rules:AlertRules",
        summary="Alert when a metric exceeds a limit, such as a spike of the validation loss.",
        traits=("deterministic",),
        example={"rules": {"slow": {"metric": "samples_per_second", "below": 1.0}}},
    )
    yield Component(
        "lr_monitor",
        "dovetail.train.callbacks.lr_monitor:LearningRateMonitor",
        summary="Record the learning rate of every parameter group per epoch.",
    )


@hookimpl
def dovetail_trackers() -> Iterator[Component]:
    """Register trackers."""
    yield Component(
        "sqlite",
        "dovetail.record.trackers:SQLiteTracker",
        summary="Record runs, their metrics and status in one SQLite file, to find the best run.",
    )
    yield Component(
        "jsonl",
        "dovetail.record.trackers:JSONLTracker",
        summary="Append metrics to a separate JSON-lines file.",
    )


@hookimpl
def dovetail_profiles() -> Iterator[Component]:
    """Register profiles: sets of settings selected with ``--profile``."""
    yield Component(
        "defaults",
        "dovetail.config.profiles:defaults",
        summary="Dovetail's default settings, by name.",
    )
    yield Component(
        "kaggle_safe",
        "dovetail.config.profiles:kaggle_safe",
        summary="For Kaggle: nine hours with a margin, 16 GB of GPU memory, a checkpoint every half hour.",
    )
    yield Component(
        "ci_fast",
        "dovetail.config.profiles:ci_fast",
        summary="A smoke test of any run in a few seconds.",
    )
    yield Component(
        "quick_prototype",
        "dovetail.config.profiles:quick_prototype",
        summary="Three epochs, to try an idea.",
    )
    yield Component(
        "baseline",
        "dovetail.config.profiles:baseline",
        summary="Ten epochs: a baseline for later runs.",
    )
    yield Component(
        "production",
        "dovetail.config.profiles:production",
        summary="Twenty epochs; keeps the three best and the five last checkpoints.",
    )
    yield Component(
        "distributed",
        "dovetail.config.profiles:distributed",
        summary="Four devices.",
    )
    yield Component(
        "low_memory",
        "dovetail.config.profiles:low_memory",
        summary="A batch size of 2, accumulated over 8 batches.",
    )
