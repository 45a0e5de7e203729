"""The sections of a run file: every setting of Dovetail's own, with its type, default, limits and help.

What a part takes is not here: that is read from the part's own signature. Each field carries its help in the attrs
metadata, from which the reference, the JSON schema and the commented default files are made.
"""

# ruff: noqa: RUF009 (setting(), part() and section() make fields, as attrs.field() does)

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import attrs
from attrs import Factory, field, frozen

from dovetail.config.diagnostics import suggest
from dovetail.config.notation import visible
from dovetail.config.settings import OfKind, part, section, setting
from dovetail.config.tree import Node
from dovetail.config.values import seconds, size_in_bytes
from dovetail.kernel.build import Part
from dovetail.spec.limits import AtLeast, Between, MoreThan

#: How many of the best and of the last checkpoints are kept unless the run file says otherwise.
KEEP_BEST: Final = 3
KEEP_LAST: Final = 5
#: Epochs of a run whose file gives neither epochs nor steps.
MAX_EPOCHS: Final = 10

#: What values.py reads, as the JSON schema says it.
_DURATION: Final = r"(\d+(\.\d+)?[dhms])+"
_SIZE: Final = r"\d+(\.\d+)? ?[kKmMgGtT]?[iI]?[bB]"
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_DEVICE: Final = re.compile(r"auto|cpu|(cuda|mps|xpu|hpu|npu|mtia)(:\d{1,3})?")


def _check_name(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and not _NAME.fullmatch(value):
        shown = visible(value, limit=40)
        msg = f"must be 1 to 100 of the characters A-Z a-z 0-9 . _ - and not begin with '.', got {shown!r}"
        raise ValueError(msg)


def _check_device(_instance: object, _attribute: object, value: str) -> None:
    if not _DEVICE.fullmatch(value):
        meant = (
            "; did you mean 'cuda'?"
            if value.lower() in {"gpu", "nvidia"}
            else suggest(value, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        )
        msg = f"{visible(value, limit=40)!r} is not a device such as 'auto', 'cpu', 'cuda' or 'cuda:0'{meant}"
        raise ValueError(msg)


@frozen
class Every:
    """How often: every so many epochs, optimizer updates, or minutes; of several, whenever one of them is due."""

    epochs: int | None = setting(None, "every so many epochs", AtLeast(1))
    steps: int | None = setting(None, "every so many optimizer updates", AtLeast(1))
    minutes: float | None = setting(None, "every so many minutes (checkpoints only)", MoreThan(0))

    def __attrs_post_init__(self) -> None:
        """Refuse none."""
        if self.epochs is self.steps is self.minutes is None:
            msg = "needs 'epochs', 'steps' or 'minutes'"
            raise ValueError(msg)


#: As a run file says it of a part: a number of epochs, or a table.
Cadence = Annotated[int, AtLeast(1)] | Every


def _as_every(value: int | Every) -> Every:
    return Every(epochs=value) if isinstance(value, int) else value


def _no_minutes(_instance: object, _attribute: object, value: Every) -> None:
    if value.minutes is not None:
        msg = "counts epochs or steps; 'minutes' is for checkpoints only"
        raise ValueError(msg)


@frozen
class RunSection:
    """What the run is called and where its randomness starts."""

    name: str = setting(
        "run",
        "names the folder under paths.output; letters, digits, '.', '_' and '-'",
        check=_check_name,
        pattern=_NAME.pattern,
    )
    experiment: str | None = setting(None, "the experiment that the run belongs to")
    seed: int = setting(
        42,
        "seed of everything random: initial weights, order of samples, dropout, augmentation",
        Between(0, 2**64 - 1),
    )
    deterministic: bool = setting(default=False, text="insist on deterministic algorithms, also where they are slower")
    notes: str = setting("", "free text, kept with the run")
    tags: list[str] = setting(Factory(list), "words to find the run by")


@frozen
class HardwareSection:
    """Where the run computes."""

    device: str = setting(
        "auto",
        "'auto' (an accelerator if there is one), 'cpu', 'cuda', 'cuda:1' …",
        check=_check_device,
        pattern=_DEVICE.pattern,
    )
    devices: int = setting(1, "how many devices to train on", AtLeast(1))
    strategy: Literal["none", "ddp", "fsdp"] = setting("none", "how to train on several devices")
    compile: bool = setting(default=False, text="compile the model with torch.compile")
    threads: int | None = setting(None, "CPU threads for computing; what torch chooses unless set", AtLeast(1))

    @strategy.validator
    def _check_strategy(self, _attribute: object, value: str) -> None:
        if self.devices > 1 and value == "none":
            msg = f'{self.devices} devices need strategy = "ddp" or "fsdp", got \'none\''
            raise ValueError(msg)


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
    pin_memory: bool | None = setting(None, "page-lock batches for faster copies to a GPU; where that helps unless set")
    shuffle: bool = setting(default=True, text="shuffle the training samples anew in every epoch")
    drop_last: bool = setting(default=False, text="leave out the last training batch where it is smaller")


@frozen
class TrainingSection:
    """Length, precision, clipping and accumulation: the same for every trainer."""

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
        "what max_grad_norm limits: the norm of all gradients together, that of each parameter's, or every value",
    )
    nan_policy: Literal["stop", "skip", "roll_back"] = setting(
        "stop",
        "what to do when a loss or a gradient is NaN or infinite: end the run, leave out the update, or go back to the "
        "weights of the last checkpoint",
    )
    max_roll_backs: int = setting(3, "how often to go back before the run ends after all", AtLeast(1))
    accumulate: int = setting(1, "batches per optimizer update", AtLeast(1))
    accumulate_any_loss: bool = setting(
        default=False, text="accumulate also a loss that does not claim that the parts of a batch add up"
    )
    gradient_checkpointing: bool = setting(
        default=False, text="compute activations again on the way back: less memory, more time, the same numbers"
    )
    ema_decay: float | None = setting(
        None, "keep an exponential moving average of the weights, with this decay, such as 0.999", Between(0, 1)
    )
    ema_validate: bool = setting(default=True, text="validate and test the average of the weights, where one is kept")
    validate_every: int | Every = setting(
        Factory(lambda: Every(epochs=1)),
        "when to validate: a number of epochs, { epochs = … } or { steps = … }",
        AtLeast(1),
        check=_no_minutes,
        converter=_as_every,
    )
    train_metrics: bool = setting(
        default=False, text="measure what [metrics] names on the training batches too, as the model sees them"
    )
    test: bool = setting(default=True, text="evaluate the best checkpoint on the test split at the end")
    init_from: Path | None = setting(
        None, "weights that the model begins with: a checkpoint's folder, or a .safetensors file"
    )
    init_from_pt: bool = setting(
        default=False,
        text="let init_from be a file of torch.save (.pt), which is read with weights_only",
    )

    @max_epochs.validator
    def _check_length(self, _attribute: object, value: int | None) -> None:
        if value is None and self.max_steps is None:
            msg = "needs max_epochs or max_steps, or training never ends"
            raise ValueError(msg)


@frozen
class PhaseSection:
    """One stretch of a training that goes through several, each with an optimizer of its own."""

    name: str | None = setting(None, "what the log calls it; its number unless set")
    max_epochs: int | None = setting(None, "epochs after which it ends", AtLeast(1))
    max_steps: int | None = setting(None, "optimizer updates after which it ends, and its epoch with it", AtLeast(1))
    optimizer: Annotated[Part, OfKind("optimizer")] | None = setting(
        None, "its optimizer; that of [optimizer], made anew, unless set"
    )
    scheduler: Annotated[Part, OfKind("scheduler")] | None = setting(
        None, "how its learning rate moves; as [scheduler] says unless set"
    )
    freeze: list[str] = setting(
        Factory(list), "parameters of the model that stay as they are: names, in which * stands for anything"
    )


@frozen
class CheckpointSection:
    """When checkpoints are written and which are kept."""

    every: int | Every = setting(
        Factory(lambda: Every(epochs=1)),
        "when to write: a number of epochs, or { epochs = …, steps = …, minutes = … }, of which any may be set",
        AtLeast(1),
        converter=_as_every,
    )
    monitor: str = setting("val_loss", "the metric that tells the best checkpoint")
    mode: Literal["auto", "min", "max"] = setting(
        "auto", "whether less or more of it is better; 'auto' goes by its name"
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
        text="write while training goes on, which waits for a copy in main memory alone; that takes memory",
    )
    copy_to: Annotated[Part, OfKind("storage")] | None = setting(
        None, "a store that every checkpoint is copied to as well, while training goes on"
    )
    copy_patience: float = setting(300.0, "seconds that the end of the run waits for copies under way", AtLeast(0))
    resume: Literal["never", "auto", "must"] = setting(
        "never",
        "what `dovetail run` does about an earlier run with these settings: begin anew all the same, go on with it if "
        "it was not finished, or refuse to begin one",
    )

    @keep_best.validator
    @keep_last.validator
    def _check_kept(self, _attribute: object, value: int) -> None:
        if self.best_only and value != 1:
            msg = f"best_only = true keeps 1, which contradicts {value}"
            raise ValueError(msg)


@frozen
class LoggingSection:
    """What is said while training."""

    every: int = setting(50, "optimizer updates between lines on the console and in metrics.jsonl", AtLeast(1))
    console: bool = setting(default=True, text="show progress on the console")


@frozen
class ReportSection:
    """The report of the run, report.html."""

    enabled: bool = setting(default=True, text="write the report")
    plots: bool = setting(default=True, text="draw the curves, and keep them in plots/ too")
    every: int = setting(1, "epochs between renewals while the run is under way", AtLeast(1))


def _check_duration(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None:
        seconds(value)


def _check_size(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None:
        size_in_bytes(value)


@frozen
class BudgetSection:
    """Limits at which the run stops cleanly, with a checkpoint."""

    wall_clock: str | None = setting(
        None,
        'time from start to end, such as "9h" or "1h30m"; a run that is resumed has all of it again',
        check=_check_duration,
        pattern=_DURATION,
    )
    memory: str | None = setting(None, 'main memory of the process, such as "32GB"', check=_check_size, pattern=_SIZE)
    gpu_memory: str | None = setting(None, 'memory on each GPU, such as "16GB"', check=_check_size, pattern=_SIZE)

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
    """What the run demands of the installation."""

    require: list[str] = setting(Factory(list), 'distributions with versions, such as "dovetail-signals>=1.2"')


@frozen(kw_only=True)
class RunConfig:
    """A run, resolved and checked: what the run file says, with every default filled in."""

    run: RunSection = section(RunSection)
    data: Annotated[Part, OfKind("dataset")] = part("The dataset, and how it is split.")
    transforms: dict[str, Annotated[Part, OfKind("transform")]] = part(
        "What is done to each sample, in this order.", factory=dict
    )
    loader: LoaderSection = section(LoaderSection)
    collator: Annotated[Part, OfKind("collator", "default")] = part("How samples are put together into a batch.")
    model: Annotated[Part, OfKind("model")] = part("The model.")
    loss: Annotated[Part, OfKind("loss")] = part("What training minimises.")
    optimizer: Annotated[Part, OfKind("optimizer", "adamw")] = part("The optimizer.")
    scheduler: Annotated[Part, OfKind("scheduler")] | None = part(
        "How the learning rate moves; constant unless set.", default=None
    )
    training: TrainingSection = section(TrainingSection)
    phases: list[PhaseSection] = part(
        "Stretches of the training, one after another, each with an optimizer of its own; one for all unless set.",
        factory=list,
    )
    trainer: Annotated[Part, OfKind("trainer", "standard")] = part("The training loop.")
    metrics: dict[str, Annotated[Part, OfKind("metric")]] = part("What is measured, besides the loss.", factory=dict)
    callbacks: dict[str, Annotated[Part, OfKind("callback")]] = part("What else happens in the run.", factory=dict)
    trackers: dict[str, Annotated[Part, OfKind("tracker")]] = part("Where else the run is recorded.", factory=dict)
    checkpoint: CheckpointSection = section(CheckpointSection)
    hardware: HardwareSection = section(HardwareSection)
    paths: PathsSection = section(PathsSection)
    logging: LoggingSection = section(LoggingSection)
    report: ReportSection = section(ReportSection)
    budget: BudgetSection = section(BudgetSection)
    plugins: PluginsSection = section(PluginsSection)
    #: What was written, with its origins; no part of what the run is.
    tree: Node = field(factory=lambda: Node.from_python({}), eq=False, repr=False, metadata={"internal": True})

    def to_dict(self) -> dict[str, Any]:
        """Return the whole configuration, defaults included, as plain tables and values; None where nothing is set."""
        from dovetail.config.plain import plain

        return {one.name: plain(getattr(self, one.name)) for one in sections()}


def sections() -> list[attrs.Attribute[Any]]:
    """Return the sections of a run file, in the order in which they are written."""
    return [one for one in attrs.fields(attrs.resolve_types(RunConfig)) if not one.metadata.get("internal")]
