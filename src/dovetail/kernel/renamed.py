"""Old names of attributes that plugins may still use."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any


def renamed(names: Mapping[str, str]) -> Callable[[Any, str], Any]:
    """Return a ``__getattr__`` that answers old names with what they are called now, and warns.

    Args:
        names: the new name of each old one.
    """

    def get(self: Any, name: str) -> Any:
        if name not in names:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        warnings.warn(f"{type(self).__name__}.{name} is now called {names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(self, names[name])

    return get
