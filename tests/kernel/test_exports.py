"""Public names that are imported on first use."""

from __future__ import annotations

import importlib
import sys

import pytest

INIT = '''"""A package whose docstring says: from here import nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dovetail.kernel.exports import lazy_namespace

if TYPE_CHECKING:
    from lazy_package.deep.second import Second as Second
    from lazy_package.first import first as first
else:
    __getattr__, __dir__, __all__ = lazy_namespace(__name__)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Import a package with two public names from two modules."""
    (tmp_path / "lazy_package" / "deep").mkdir(parents=True)
    (tmp_path / "lazy_package" / "__init__.py").write_text(INIT)
    (tmp_path / "lazy_package" / "first.py").write_text("def first():\n    return 1\n")
    (tmp_path / "lazy_package" / "deep" / "__init__.py").write_text("")
    (tmp_path / "lazy_package" / "deep" / "second.py").write_text("class Second:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("lazy_package")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lazy_package"]:
        del sys.modules[name]


def test_names_are_the_imports_for_type_checkers(package):
    """The package lists them before any of their modules is imported."""
    assert package.__all__ == dir(package) == ["Second", "first"]
    assert "lazy_package.first" not in sys.modules


def test_a_name_imports_its_module_only(package):
    """The first use imports one module; later uses find the name in the package."""
    assert package.Second.__module__ == "lazy_package.deep.second"
    assert "lazy_package.first" not in sys.modules
    assert "Second" in vars(package)


def test_an_unknown_name_raises_like_pythons_own(package):
    """The message has the package and the name."""
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'third'"):
        package.third  # noqa: B018 (the access is what raises)
