"""Public names that a package imports on first use, so that importing the package costs nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_namespace(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports its public names on first use.

    The public names are the ``from module import name as name`` lines of the package's ``__init__.py``; a name may also
    be a module. Written under ``if TYPE_CHECKING:``, they tell type checkers and editors the same::

        if TYPE_CHECKING:
            from dovetail.losses.focal import FocalLoss as FocalLoss
        else:
            __getattr__, __dir__, __all__ = lazy_namespace(__name__)

    Args:
        package: the package's name.
    """
    with open(str(sys.modules[package].__file__), encoding="utf-8") as source:  # noqa: PTH123 (pathlib costs an import)
        lines = [line.split() for line in source]
    imports = [words for words in lines if words[:1] == ["from"] and words[2::2] == ["import", "as"]]
    homes = {words[5]: words[1] for words in imports}
    names = sorted(homes)

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        home = homes[name]
        is_module = home == package
        value = importlib.import_module(f"{home}.{name}" if is_module else home)
        value = value if is_module else getattr(value, name)
        setattr(sys.modules[package], name, value)  # later look-ups find the name without calling load
        return value

    return load, names.copy, names
