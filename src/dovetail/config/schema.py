"""The sections of a run file: every setting of Dovetail itself, with its type, default, limits and help.

The options of a part are not here: they come from the signature of its component. Each field has its help in the attrs
metadata, which the reference, the JSON schema and the commented default files show.
"""

# ruff: noqa: RUF009 (setting(), part() and section() declare fields, as attrs.field() does)

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

import attrs
from attrs import Factory, field, frozen

from dovetail.config.fields import DEVICE, DURATION, NAME, SIZE, OfKind, part, seconds, section, setting, size_in_bytes
from dovetail.config.tree import Node
from dovetail.kernel.build import Part
from dovetail.spec import AtLeast, Between, MoreThan

#: How many of the best and of the last checkpoints are kept by default.
KEEP_BEST: Final = 3
KEEP_LAST: Final = 5
#: Epochs of a run that sets neither epochs nor steps.
MAX_EPOCHS: Final = 10


@frozen
class Every:
    """A cadence: every so many epochs, optimizer updates or minutes; with several of them, whenever one is due."""

    epochs: int | None = setting(None, "number of epochs", AtLeast(1))
    steps: int | None = setting(None, "number of optimizer updates", AtLeast(1))
    minutes: float | None = setting(None, "number of minutes (checkpoints only)", MoreThan(0))

    def __attrs_post_init__(self) -> None:
        """Require one of the three."""
        if self.epochs is self.steps is self.minutes is None:
            raise ValueError("needs 'epochs', 'steps' or 'minutes'")


#: A cadence in the options of a part: a number of epochs, or a table.
EveryOption = Annotated[int, AtLeast(1)] | Every


def _as_every(value: int | Every) -> Every:
    return Every(epochs=value) if isinstance(value, int) else value


def _no_minutes(_instance: object, _attribute: object, value: Every) -> None:
    if value.minutes is not None:
        raise ValueError("counts epochs or steps; 'minutes' is for checkpoints only")


@frozen
class RunSection:
    """The name of the run, and the seed of its randomness."""

    name: str = setting(
        "run",
        "names the folder under paths.output; letters, digits, '.', '_' and '-'",
        check=NAME,
    )
    experiment: str | None = setting(None, "the experiment that the run belongs to")
    seed: int = setting(
        42,
        "seed of all randomness: initial weights, order of samples, dropout, augmentation",
        Between(0, 2**64 - 1),
    )
    deterministic: bool = setting(default=False, text="use deterministic algorithms only, even if they are slower")
    notes: str = setting("", "free text, stored with the run")
    tags: list[str] = setting(Factory(list), "words to find the run by")


@frozen
class HardwareSection:
    """Where the run computes."""

    device: str = setting(
        "auto",
        "'auto' (an accelerator if available), 'cpu', 'cuda', 'cuda:1' …",
        check=DEVICE,
    )
    devices: int = setting(1, "how many devices to train on", AtLeast(1))
    strategy: Literal["none", "ddp", "fsdp"] = setting("none", "how to train on several devices")
    compile: bool = setting(default=False, text="compile the model with torch.compile")
    threads: int | None = setting(None, "CPU threads for computation; torch chooses unless set", AtLeast(1))

    @strategy.validator
    def _check_strategy(self, _attribute: object, value: str) -> None:
        if self.devices > 1 and value == "none":
            raise ValueError(f'{self.devices} devices need strategy = "ddp" or "fsdp", got \'none\'')


@frozen
class PathsSection:
    """Where the run writes."""

    output: Path = setting(Path("runs"), "folder of all runs")
    models: Path | None = setting(None, "folder for checkpoints; inside the run's folder unless set")
    logs: Path | None = setting(None, "folder for logs; inside the run's folder unless set")


@frozen
class LoaderSection:
    """How samples become batches."""

    batch_size: int = setting(32, "samples per batch", AtLeast(1))
    eval_batch_size: int | None = setting(
        None, "samples per batch of validation and test; batch_size unless set", AtLeast(1)
    )
    num_workers: int = setting(0, "processes that load samples; 0 loads in the training process", AtLeast(0))
    pin_memory: bool | None = setting(
        None, "pin the memory of batches for faster copies to a GPU; on with CUDA unless set"
    )
    shuffle: bool = setting(default=True, text="reshuffle the training samples in every epoch")
    drop_last: bool = setting(default=False, text="drop the last training batch if it is smaller")


@frozen
class TrainingSection:
    """Length, precision, clipping and accumulation, for every trainer."""

    max_steps: int | None = setting(None, "optimizer updates after which training ends", AtLeast(1))
    max_epochs: int | None = setting(
        Factory(lambda self: MAX_EPOCHS if self.max_steps is None else None, takes_self=True),
        f"epochs after which training ends; {MAX_EPOCHS} unless max_steps is set",
        AtLeast(1),
    )
    precision: Literal["fp32", "bf16", "fp16", "tf32"] = setting(
        "fp32", "number format of the forward and backward pass; bf16 and fp16 are mixed precision"
    )
    max_grad_norm: float | None = setting(1.0, "clip the global gradient norm to this", MoreThan(0))
    clip_by: Literal["norm", "parameter", "value"] = setting(
        "norm",
        "what max_grad_norm limits: the norm of all gradients together, of each parameter's gradient, or each value",
    )
    nan_policy: Literal["stop", "skip", "roll_back"] = setting(
        "stop",
        "what to do when a loss or a gradient is NaN or infinite: end the run, skip the update, or roll back to the "
        "weights of the last checkpoint",
    )
    max_roll_backs: int = setting(3, "number of roll-backs after which the run ends", AtLeast(1))
    accumulate: int = setting(1, "batches per optimizer update", AtLeast(1))
    accumulate_any_loss: bool = setting(
        default=False, text="accumulate even a loss that does not declare itself additive over the parts of a batch"
    )
    gradient_checkpointing: bool = setting(
        default=False, text="recompute activations in the backward pass: less memory, more time, the same numbers"
    )
    ema_decay: float | None = setting(
        None, "keep an exponential moving average of the weights with this decay, such as 0.999", Between(0, 1)
    )
    ema_validate: bool = setting(default=True, text="validate and test the average of the weights if ema_decay is set")
    validate_every: int | Every = setting(
        Factory(lambda: Every(epochs=1)),
        "when to validate: a number of epochs, { epochs = … } or { steps = … }",
        AtLeast(1),
        check=_no_minutes,
        converter=_as_every,
    )
    train_metrics: bool = setting(
        default=False, text="compute the metrics on the training batches too, as the model sees them"
    )
    test: bool = setting(default=True, text="evaluate the best checkpoint on the test split at the end")
    init_from: Path | None = setting(
        None, "initial weights of the model: a checkpoint's folder, or a .safetensors file"
    )
    init_from_pt: bool = setting(
        default=False,
        text="allow init_from to be a file of torch.save (.pt), which is read with weights_only",
    )

    @max_epochs.validator
    def _check_length(self, _attribute: object, value: int | None) -> None:
        if value is None and self.max_steps is None:
            raise ValueError("needs max_epochs or max_steps, or training never ends")


@frozen
class PhaseSection:
    """One phase of a training that has several, each with its own optimizer."""

    name: str | None = setting(None, "its name in the log; its number unless set")
    max_epochs: int | None = setting(None, "epochs after which it ends", AtLeast(1))
    max_steps: int | None = setting(None, "optimizer updates after which it ends, along with its epoch", AtLeast(1))
    optimizer: Annotated[Part, OfKind("optimizer")] | None = setting(
        None, "its optimizer; a new one as in [optimizer] unless set"
    )
    scheduler: Annotated[Part, OfKind("scheduler")] | None = setting(
        None, "its learning-rate schedule; as in [scheduler] unless set"
    )
    freeze: list[str] = setting(
        Factory(list), "parameters of the model that are not trained: names, in which * matches anything"
    )


@frozen
class CheckpointSection:
    """When checkpoints are written and which are kept."""

    every: int | Every = setting(
        Factory(lambda: Every(epochs=1)),
        "when to write: a number of epochs, or one or more of { epochs = …, steps = …, minutes = … }",
        AtLeast(1),
        converter=_as_every,
    )
    monitor: str = setting("val_loss", "the metric that decides which checkpoint is best")
    mode: Literal["auto", "min", "max"] = setting(
        "auto",
        "whether a lower or a higher value is better; 'auto' uses what the metric declares, then the words of its "
        "name, and is an error for any other name",
    )
    best_only: bool = setting(default=False, text="keep one best and one last checkpoint")
    keep_best: int = setting(
        Factory(lambda self: 1 if self.best_only else KEEP_BEST, takes_self=True),
        f"how many of the best to keep; {KEEP_BEST}, or 1 with best_only",
        AtLeast(0),
    )
    keep_last: int = setting(
        Factory(lambda self: 1 if self.best_only else KEEP_LAST, takes_self=True),
        f"how many of the last to keep, to resume from; {KEEP_LAST}, or 1 with best_only",
        AtLeast(1),
    )
    background: bool = setting(
        default=False,
        text="write in the background: training waits only for a copy in main memory, which takes memory",
    )
    copy_to: Annotated[Part, OfKind("storage")] | None = setting(
        None, "a store that every checkpoint is also copied to, in the background"
    )
    copy_patience: float = setting(300.0, "seconds to wait for pending copies at the end of the run", AtLeast(0))
    resume: Literal["never", "auto", "must"] = setting(
        "never",
        "what `dovetail run` does if an earlier run has these settings: start a new run, resume it if unfinished, or "
        "refuse to start a new one",
    )

    @keep_best.validator
    @keep_last.validator
    def _check_kept(self, _attribute: object, value: int) -> None:
        if self.best_only and value != 1:
            raise ValueError(f"best_only = true keeps 1, which contradicts {value}")


@frozen
class LoggingSection:
    """Progress during training, on the console and in files."""

    every: int = setting(50, "optimizer updates between lines on the console and in metrics.jsonl", AtLeast(1))
    console: bool = setting(default=True, text="show progress on the console")


@frozen
class ReportSection:
    """The report of the run, report.html."""

    enabled: bool = setting(default=True, text="write the report")
    plots: bool = setting(default=True, text="draw the curves, and also write them to plots/")
    every: int = setting(1, "epochs between updates of the report during the run", AtLeast(1))


@frozen
class BudgetSection:
    """Limits at which the run stops cleanly, with a checkpoint."""

    wall_clock: str | None = setting(
        None,
        'time limit, such as "9h" or "1h30m"; a resumed run has all of it again',
        check=DURATION,
    )
    memory: str | None = setting(None, 'main memory of the process, such as "32GB"', check=SIZE)
    gpu_memory: str | None = setting(None, 'memory on each GPU, such as "16GB"', check=SIZE)

    @property
    def wall_clock_seconds(self) -> float | None:
        """The time limit in seconds."""
        return None if self.wall_clock is None else seconds(self.wall_clock)

    @property
    def memory_bytes(self) -> int | None:
        """The limit of main memory in bytes."""
        return None if self.memory is None else size_in_bytes(self.memory)

    @property
    def gpu_memory_bytes(self) -> int | None:
        """The limit of each GPU's memory in bytes."""
        return None if self.gpu_memory is None else size_in_bytes(self.gpu_memory)


@frozen
class PluginsSection:
    """Plugins that the run requires."""

    require: list[str] = setting(Factory(list), 'distributions with versions, such as "dovetail-signals>=1.2"')


@frozen(kw_only=True)
class RunConfig:
    """The resolved and checked configuration of a run, with every default filled in."""

    run: RunSection = section(RunSection)
    data: Annotated[Part, OfKind("dataset")] = part("The dataset, and how it is split.")
    transforms: dict[str, Annotated[Part, OfKind("transform")]] = part(
        "Applied to each sample, in this order.", factory=dict
    )
    loader: LoaderSection = section(LoaderSection)
    collator: Annotated[Part, OfKind("collator", "default")] = part("How samples are collated into a batch.")
    model: Annotated[Part, OfKind("model")] = part("The model.")
    loss: Annotated[Part, OfKind("loss")] = part("The loss that training minimises.")
    optimizer: Annotated[Part, OfKind("optimizer", "adamw")] = part("The optimizer.")
    scheduler: Annotated[Part, OfKind("scheduler")] | None = part(
        "The learning-rate schedule; constant unless set.", default=None
    )
    training: TrainingSection = section(TrainingSection)
    phases: list[PhaseSection] = part(
        "Phases of the training, one after another, each with its own optimizer; a single phase unless set.",
        factory=list,
    )
    trainer: Annotated[Part, OfKind("trainer", "standard")] = part("The training loop.")
    metrics: dict[str, Annotated[Part, OfKind("metric")]] = part("What is measured besides the loss.", factory=dict)
    callbacks: dict[str, Annotated[Part, OfKind("callback")]] = part("Objects whose hooks the run calls.", factory=dict)
    trackers: dict[str, Annotated[Part, OfKind("tracker")]] = part("Where else the run is recorded.", factory=dict)
    checkpoint: CheckpointSection = section(CheckpointSection)
    hardware: HardwareSection = section(HardwareSection)
    paths: PathsSection = section(PathsSection)
    logging: LoggingSection = section(LoggingSection)
    report: ReportSection = section(ReportSection)
    budget: BudgetSection = section(BudgetSection)
    plugins: PluginsSection = section(PluginsSection)
    #: What was written, with its origins; two equal configurations may differ in it.
    tree: Node = field(factory=lambda: Node.from_python({}), eq=False, repr=False, metadata={"internal": True})

    def to_dict(self) -> dict[str, Any]:
        """Return the whole configuration, defaults included, as plain tables and values; None where nothing is set."""
        from dovetail.config.plain import plain

        return {section.name: plain(getattr(self, section.name)) for section in sections()}


def sections() -> list[attrs.Attribute[Any]]:
    """Return the sections of a run file, in the order in which they are written."""
    return [field for field in attrs.fields(attrs.resolve_types(RunConfig)) if not field.metadata.get("internal")]
