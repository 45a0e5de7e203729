"""What a kind of component is. Which kinds there are is a table that the kernel is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from attrs import field, frozen


class Provided:
    """Marks a parameter whose default gives way to the run's value: ``Annotated[int | None, Provided] = None``."""


@runtime_checkable
class Limit(Protocol):
    """A limit on a number, written inside ``Annotated[…]``."""

    def problem(self, value: float) -> str | None:
        """Return what is wrong with ``value``, or None."""


@frozen
class Reserved:
    """A key that a kind reserves: removed from a part's table before its factory sees the options."""

    #: The type of its value. A type of an upper floor is named as ``"module:attribute"``.
    annotation: Any
    default: Any
    help: str


@frozen
class Kind:
    """One kind of component."""

    name: str
    #: The registration hook that offers components of this kind.
    hook: str
    #: A parameter annotated with this protocol is itself a component of this kind.
    protocol: type
    #: What a built part must satisfy, in words.
    must: str
    #: Parameters that the run can fill, by name, each with its meaning.
    provides: Mapping[str, str] = field(factory=dict)
    #: The provided ones that are live objects: no TOML value can stand for them.
    objects: frozenset[str] = frozenset()
    #: A method or attribute that makes up for the protocol's missing ones.
    instead: str | None = None
    #: Keys reserved by the kind, by name.
    reserved: Mapping[str, Reserved] = field(factory=dict)


class Kinds(Mapping[str, Kind]):
    """A table of kinds, by name and by protocol."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        """Keep ``kinds`` in their order."""
        self._by_name = {kind.name: kind for kind in kinds}
        self._by_protocol = {kind.protocol: kind.name for kind in self._by_name.values()}

    def __getitem__(self, name: str) -> Kind:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, annotation: Any) -> str | None:
        """Return the kind whose protocol ``annotation`` is, or None for any other type."""
        return self._by_protocol.get(annotation) if isinstance(annotation, type) else None
