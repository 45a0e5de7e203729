"""Components without torch, with every kind of option that a run file can set, and the plugin that provides them."""

# ruff: noqa: D102, UP042 (the specification documents the hooks; the unusual types are deliberate)

from __future__ import annotations

import datetime as dt
import enum
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
import pytest
from attrs import field, frozen, validators

from dovetail.config.api import Config
from dovetail.config.diagnostics import ConfigError
from dovetail.config.schema import RunConfig
from dovetail.kernel.component import Component
from dovetail.kernel.kind import Provided
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.spec.plugins import Plugins
from dovetail.spec.protocols import Loss, Metric, Model, Storage

if TYPE_CHECKING:
    from nowhere import Unknown


class Recorder:
    """Keeps what it was made with; good enough for every kind."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.options == other.options

    __hash__ = None


class Colour(str, enum.Enum):
    """An enumeration of strings that are themselves strings."""

    RED = "red"
    GREEN = "green"


class Level(enum.Enum):
    """An enumeration of integers."""

    LOW = 1
    HIGH = 2


@frozen
class Range:
    """A nested table."""

    low: float
    high: float = field(default=1.0)
    unit: str = field(default="Hz", validator=validators.in_(["Hz", "rpm"]))

    @high.validator
    def _check(self, _attribute: object, value: float) -> None:
        if value <= self.low:
            raise ValueError(f"high must be more than low = {self.low:g}")


@frozen
class Tree:
    """A table that holds tables like itself."""

    name: str
    children: list[Tree] = field(factory=list)


@frozen
class HalfKnown:
    """A table with an annotation that exists only for type checkers."""

    thing: Unknown | None = None
    count: int = 1


def digits(
    path: Path = Path("here"),
    when: dt.date | None = None,
    at: dt.datetime | None = None,
    clock: dt.time | None = None,
    seed: Annotated[int | None, Provided] = None,
) -> Recorder:
    """A dataset."""
    return Recorder(path=path, when=when, at=at, clock=clock, seed=seed)


def net(
    num_classes: int,
    hidden: list[Annotated[int, AtLeast(1)]],
    *,
    dropout: Annotated[float, Between(0, 1)] = 0.1,
    kernel: tuple[int, int] = (3, 3),
    strides: tuple[int, ...] = (1, 2),
    activation: Literal["relu", "gelu"] = "relu",
    bias: bool = True,
    colour: Colour = Colour.RED,
    level: Level = Level.LOW,
    band: Range | None = None,
    bands: Mapping[str, Range] = {},
    tree: Tree | None = None,
    names: Sequence[str] = (),
    tags: frozenset[str] = frozenset(),
    weights: float | list[float] | Literal["balanced"] | object() | None = None,
    scale: float | int = 1,  # noqa: PYI041 (as some signatures have it)
    by_class: dict[int, float] | None = None,
    either: Colour | int = 1,
    half: HalfKnown | None = None,
    anything: Any = None,
    bare=None,
    tensor: object = (),
) -> Recorder:
    """A model with an option of every type."""
    return Recorder(**locals())


def mse(reduction: Literal["mean", "sum"] = "mean") -> Recorder:
    """A loss."""
    return Recorder(reduction=reduction)


def combined(
    classification: Loss,
    terms: list[Loss] = (),  # type: ignore[assignment]
    named: dict[str, Loss] | None = None,
    guard: Loss | None = None,
    lambda_freq: Annotated[float, MoreThan(0)] = 1.0,
) -> Recorder:
    """A loss made of losses."""
    return Recorder(**locals())


@frozen
class ContrastiveOptions:
    """Options with rules of their own."""

    temperature: float = field(default=0.1, validator=validators.gt(0))
    margin: float = field(default=0.0, converter=float, validator=[validators.ge(0), validators.le(2)])
    words: list[str] = field(factory=list)
    offset: float = field(
        default=0.0, converter=attrs.Converter(lambda value, self: value + self.margin, takes_self=True)
    )
    secret: str = field(default="", validator=validators.max_len(20))
    inner: Loss | None = None
    num_classes: int = 0

    def __attrs_post_init__(self) -> None:
        if self.margin > self.temperature * 10:
            raise ValueError("margin must not be more than ten times\nthe temperature")


def contrastive(options: ContrastiveOptions, class_counts: list[int]) -> Recorder:
    """A loss with an options class."""
    return Recorder(options=options, class_counts=class_counts)


@frozen
class NeedyOptions:
    """Options of which the run provides one."""

    num_classes: int
    ratio: float = field(validator=validators.ge(0))


def needy(options: NeedyOptions) -> Recorder:
    """A loss whose options class has a required field that the run provides."""
    return Recorder(options=options)


def adamw(
    params: object(), lr: Annotated[float, MoreThan(0)] = 1e-3, betas: tuple[float, float] = (0.9, 0.999)
) -> Recorder:
    """An optimizer."""
    return Recorder(lr=lr, betas=betas)


def sgd(params: object(), lr: float, momentum: float = 0.0) -> Recorder:
    """An optimizer with a required option."""
    return Recorder(lr=lr, momentum=momentum)


def plateau(optimizer: object(), factor: float = 0.1) -> Recorder:
    """A scheduler."""
    return Recorder(factor=factor)


def simple(**_: Any) -> Recorder:
    """A part that takes nothing."""
    return Recorder()


def part() -> Recorder:
    """A part that takes nothing."""
    return Recorder()


def early_stopping(
    monitor: str = "val_loss",
    patience: Annotated[int, AtLeast(1)] = 10,
    floor: float = -math.inf,
    since: dt.date = dt.date(2024, 2, 29),
) -> Recorder:
    """A callback with defaults that JSON has no notation for."""
    return Recorder(monitor=monitor, patience=patience)


def vault(path: Path, token: str = "", headers: dict[str, str] | None = None) -> Recorder:
    """A store with a secret."""
    return Recorder(path=path, token=token, headers=headers)


def unsayable(handle: object()) -> Recorder:
    """A metric that needs what no run file can give."""
    return Recorder(handle=handle)


def nested(metric: Metric, model: Model | None = None, store: Storage | None = None) -> Recorder:
    """A metric made of parts of several kinds."""
    return Recorder(metric=metric, model=model, store=store)


def layer() -> dict[str, Any]:
    """A profile."""
    return {"training": {"max_epochs": 2}}


def _component(name: str, target: str = "", **more: Any) -> Component:
    return Component(name, f"config_parts:{target or name}", **more)


class Plugin:
    """Registers everything above."""

    def dovetail_datasets(self) -> Iterator[Component]:
        yield _component("digits", summary="Digits.")

    def dovetail_models(self) -> Iterator[Component]:
        yield _component("net", summary="A net.")

    def dovetail_losses(self) -> Iterator[Component]:
        yield _component("mse")
        yield _component("combined")
        yield _component("contrastive", options="config_parts:ContrastiveOptions")
        yield _component("needy", options=NeedyOptions)
        yield _component("broken", "no_such_thing")
        yield _component("greedy", "simple")

    def dovetail_optimizers(self) -> Iterator[Component]:
        yield _component("adamw")
        yield _component("sgd")

    def dovetail_schedulers(self) -> Iterator[Component]:
        yield _component("plateau")

    def dovetail_collators(self) -> Iterator[Component]:
        yield _component("default", "part")

    def dovetail_trainers(self) -> Iterator[Component]:
        yield _component("standard", "part")

    def dovetail_transforms(self) -> Iterator[Component]:
        yield _component("noise", "part")

    def dovetail_metrics(self) -> Iterator[Component]:
        yield _component("accuracy", "part")
        yield _component("unsayable")
        yield _component("nested")

    def dovetail_callbacks(self) -> Iterator[Component]:
        yield _component("early_stopping")

    def dovetail_trackers(self) -> Iterator[Component]:
        yield _component("board", "part")

    def dovetail_storage_backends(self) -> Iterator[Component]:
        yield _component("vault")

    def dovetail_profiles(self) -> Iterator[Component]:
        yield _component("layer")


class Rival:
    """Offers a loss of a name that is taken."""

    def dovetail_losses(self) -> Iterator[Component]:
        yield _component("mse")


def make_plugins(*, rival: bool = False) -> Plugins:
    """Return an installation with these components only."""
    plugins = Plugins()
    plugins.register(Plugin(), distribution="test-parts", version="1.0")
    if rival:
        plugins.register(Rival(), distribution="rival", version="2.0")
    return plugins


#: A valid run file; tests append their lines to it.
WHOLE = """\
[data]
type = "digits"
[model]
type = "net"
hidden = [8]
[loss]
type = "mse"
"""

#: The fixtures of tests/config/conftest.py.
Check = Callable[..., RunConfig]
Refusals = Callable[..., list[str]]


def model(line: str, options: str = "hidden = [8]\n") -> str:
    """Return a run file with one more line in the model's table, line 7."""
    return f'[data]\ntype = "digits"\n[loss]\ntype = "mse"\n[model]\ntype = "net"\n{line}\n{options}'


def whole_config() -> Config:
    """Return a valid configuration."""
    return Config.from_dict(
        {"data": {"type": "digits"}, "model": {"type": "net", "hidden": [8]}, "loss": {"type": "mse"}},
        plugins=make_plugins(),
    )


def refusal(call: Callable[[], object]) -> str:
    """Return the message of the ``ConfigError`` that a call raises."""
    with pytest.raises(ConfigError) as raised:
        call()
    return str(raised.value)


class Net:
    """A model."""

    def __call__(self) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return no weights."""
        return {}
