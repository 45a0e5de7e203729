"""Signatures: what a factory says of itself, read as torch's own factories need it."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar, Union

import attrs
import pytest

from dovetail.kernel.component import Component, PluginError
from dovetail.kernel.kind import Provided
from dovetail.kernel.plugins import Registered
from dovetail.kernel.signature import MISSING, Parameter, read_signature
from dovetail.spec.kinds import KINDS
from dovetail.spec.limits import AtLeast, Between
from dovetail.spec.protocols import Loss

if TYPE_CHECKING:
    from only_for_checkers import Nothing

T = TypeVar("T")


class Colour(enum.Enum):
    """An option with named values."""

    RED = "red"


class Tensor:
    """Something that TOML cannot say."""


@attrs.define
class Band:
    """A nested table."""

    low: float
    high: float = 1.0


def read(name, kind="loss", **fields):
    """Read the signature of something in this module."""
    target = name if ":" in name else f"{__name__}:{name}"
    return read_signature(Registered(Component("x", target, **fields), kind, "dist", "1", "entry", KINDS))


def annotations(name, kind="loss"):
    """Return the annotations of something in this module, by parameter."""
    return {item.name: item.annotation for item in read(name, kind).parameters.values()}


def plain(  # noqa: PLR0917 (one parameter per form)
    flag: bool,
    count: int,
    rate: float | Tensor,
    pair: tuple[float | Tensor, int],
    many: list[int | None],
    table: Mapping[str, float],
    colour: Colour,
    mode: Literal["a", "b"],
    where: Path,
    when: dt.date | None,
    band: Band,
    part: Loss,
    parts: Sequence[Loss],
    maybe: Optional[Loss],  # noqa: UP045 (written this way in the wild)
    either: Union[int, str],  # noqa: UP007 (likewise)
    limited: Annotated[float, Between(0, 1), "note"] = 0.5,
):
    """Use every kind of annotation that TOML can say."""


def test_what_toml_can_say():
    """Annotations come out as they are, less the members that TOML cannot say."""
    assert {
        "flag": bool,
        "count": int,
        "rate": float,
        "pair": tuple[float, int],
        "many": list[int | None],
        "table": Mapping[str, float],
        "colour": Colour,
        "mode": Literal["a", "b"],
        "where": Path,
        "when": dt.date | None,
        "band": Band,
        "part": Loss,
        "parts": Sequence[Loss],
        "maybe": Loss | None,
        "either": int | str,
        "limited": float,
    } == annotations("plain")
    signature = read("plain")
    assert (Between(0, 1),) == signature.parameters["limited"].limits
    assert not signature.parameters["limited"].required
    assert signature.parameters["flag"].required
    assert all(item.checked and item.settable for item in signature.parameters.values())


def vague(  # noqa: PLR0917 (one parameter per form)
    bare,
    anything: Any,
    thing: object,
    generic: T,
    lost: Nothing,
    partly: list[Nothing],
    wrong: 1 / 0,
    tuple_: tuple = (),
    inner: list[Annotated[float, AtLeast(0)]] = (),
):
    """Annotations that say nothing."""


def test_unusable_annotations_spoil_nothing():
    """A name that exists only for type checkers leaves its own parameter unchecked and every other as it was."""
    parameters = read("vague").parameters

    unchecked = {"bare", "anything", "thing", "generic", "lost", "partly", "wrong"}
    assert unchecked == {item.name for item in parameters.values() if not item.checked}
    assert all(item.settable for item in parameters.values())
    assert tuple is parameters["tuple_"].annotation
    assert list[Annotated[float, AtLeast(0)]] == parameters["inner"].annotation


def impossible(
    weight: Tensor | None = None,
    call: Callable[[], int] | None = None,
    rows: Iterable[Tensor] = (),
    nested: Annotated[Tensor, "note"] = None,
    nothing: None = None,
):
    """Annotations no TOML value fits."""


def test_what_toml_cannot_say_is_not_settable():
    """A tensor or a callable cannot come from TOML, and the parameter says so."""
    settable = {item.name: item.settable for item in read("impossible").parameters.values()}

    assert settable == {"weight": False, "call": False, "rows": False, "nested": False, "nothing": True}


def wants(
    num_classes: int,
    class_counts: Annotated[list[int] | None, Provided] = None,
    epochs: int = 5,
):
    """Take from the run."""


def defaulted(num_classes: int = 3):
    """A provided name that has a default of its own."""


def test_the_run_fills_only_what_has_no_default_or_is_marked():
    """A default wins over the run unless the parameter is marked; and a kind provides only its own names."""
    parameters = read("wants").parameters

    assert {name: item.provided for name, item in parameters.items()} == {
        "num_classes": True,
        "class_counts": True,
        "epochs": False,
    }
    assert not parameters["num_classes"].required
    assert not read("defaulted").parameters["num_classes"].provided
    assert not read("wants", kind="callback").parameters["num_classes"].provided


class Base:
    """Gives its constructor to a subclass."""

    def __init__(self, size: int, *, scale: float = 1.0):
        self.size, self.scale = size, scale


class Derived(Base):
    """Has no constructor of its own."""


@attrs.define
class Attrs:
    """A component that is an attrs class."""

    size: int
    scale: float = 1.0


@pytest.mark.parametrize("name", ["Base", "Derived", "Attrs"])
def test_classes_are_read_by_their_constructor(name):
    """Plain, inheriting and attrs classes read alike; ``self`` is no option."""
    assert {"size": int, "scale": float} == annotations(name)


def test_inherited_constructor_from_another_module():
    """Annotations of an inherited constructor are read with the names of the module that wrote them."""
    parameters = read("dovetail.metrics.confusion_matrix:ConfusionMatrix", kind="metric").parameters

    assert parameters["num_classes"].provided
    assert parameters["num_classes"].checked


def starred(*args: int):
    """Say too little."""


def keywords(**kwargs: int):
    """Say too little."""


def positional(x: int, /):
    """Say too little."""


@pytest.mark.parametrize(
    "name, shown",
    [("starred", r"\*args"), ("keywords", r"\*\*kwargs"), ("positional", "'x'")],
)
def test_signatures_that_say_too_little_need_options(name, shown):
    """A signature without keyword names is refused, naming plugin, target and the way out."""
    with pytest.raises(PluginError, match=rf"loss 'x' of dist .*{name}.*{shown}.*options="):
        read(name)


@attrs.define
class Options:
    """Stands in for a signature."""

    low: float
    high: float = attrs.field(default=1.0)
    _hidden: int = 3
    secret: int = attrs.field(default=0, init=False)

    @high.validator
    def _check(self, _attribute, value):
        if value < self.low:
            raise ValueError("'high' must be at least 'low'")


def taker(options: Options, num_classes: int):
    """Take the options object itself."""
    return options, num_classes


@pytest.mark.parametrize("options", [Options, f"{__name__}:Options"])
def test_options_class_stands_in(options):
    """The options class gives the keys; what the run provides goes to the factory itself."""
    signature = read("taker", options=options)

    assert {"low", "high", "hidden", "num_classes"} == set(signature.parameters)
    assert ("options", Options) == (signature.options_parameter, signature.options_class)
    assert (
        Parameter("num_classes", Any, provided=True, checked=False, settable=False)
        == signature.parameters["num_classes"]
    )
    assert read("keywords", options=options).options_parameter is None


def test_options_must_be_an_attrs_class():
    """Anything else as an options class is refused."""
    with pytest.raises(PluginError, match="is not an attrs class"):
        read("keywords", options=f"{__name__}:Tensor")


def reserved(split: float):
    """Use a name that datasets keep."""


@pytest.mark.parametrize("name", ["reserved"])
def test_names_kept_by_the_kind_are_refused(name):
    """A factory cannot take a key that its kind takes off before."""
    with pytest.raises(PluginError, match="parameter 'split', which every dataset reserves"):
        read(name, kind="dataset")
    assert {"split"} == set(read(name, kind="model").parameters)


@pytest.mark.parametrize(
    "target, why",
    [
        ("no_such_package_here:x", "ModuleNotFoundError"),
        ("pathlib:Nothing", "AttributeError"),
        ("builtins:dict", "no signature|too little|supported"),
    ],
)
def test_targets_that_cannot_be_read(target, why):
    """Whatever goes wrong with a target, the message names the component, its distribution and the target."""
    with pytest.raises(PluginError, match=rf"loss 'x' of dist \({target}\).*({why})"):
        read(target)


@pytest.mark.parametrize(
    "kind, target, expected",
    [
        (
            "loss",
            "torch.nn:CrossEntropyLoss",
            {"label_smoothing": float, "ignore_index": int, "reduction": str},
        ),
        ("loss", "torch.nn:HuberLoss", {"delta": float}),
        ("optimizer", "torch.optim:AdamW", {"lr": float, "betas": tuple[float, float], "fused": bool | None}),
        ("optimizer", "torch.optim:SGD", {"momentum": float, "nesterov": bool}),
        ("optimizer", "torch.optim:LBFGS", {"max_iter": int, "line_search_fn": str | None}),
        (
            "scheduler",
            "torch.optim.lr_scheduler:OneCycleLR",
            {"max_lr": float | list[float], "total_steps": int | None},
        ),
        ("scheduler", "torch.optim.lr_scheduler:ReduceLROnPlateau", {"mode": Literal["min", "max"]}),
    ],
)
def test_torch_registers_as_it_is(kind, target, expected):
    """Torch's own losses, optimizers and schedulers need no wrapper; what holds tensors is not settable."""
    pytest.importorskip("torch")
    signature = read(target, kind=kind)

    assert expected == {name: signature.parameters[name].annotation for name in expected}
    for name in KINDS[kind].objects & set(signature.parameters):
        assert signature.parameters[name].provided
        assert not signature.parameters[name].settable
    assert all(str(item.default) != "" for item in signature.parameters.values() if item.default is MISSING)
