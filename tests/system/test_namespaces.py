"""The public namespaces of packages: complete, lazy, and unambiguous."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

from dovetail import builtin

#: Packages with components, and with a namespace for them: ``dovetail.losses.FocalLoss``.
WITH_COMPONENTS = [
    "dovetail.data",
    "dovetail.losses",
    "dovetail.metrics",
    "dovetail.models",
    "dovetail.monitor",
    "dovetail.optimizers",
    "dovetail.schedulers",
]
#: All packages with a namespace.
PACKAGES = [*WITH_COMPONENTS, "dovetail.ops", "dovetail.pieces", "dovetail.testkit"]


def targets() -> list[str]:
    """Return the target ``module:name`` of every component that Dovetail registers."""
    registrations = [hook for name, hook in inspect.getmembers(builtin) if name.startswith("dovetail_")]
    return [component.target for registration in registrations for component in registration()]


def test_importing_a_package_does_not_import_torch():
    """Nor does listing its names."""
    code = f"import sys, {', '.join(PACKAGES)}; [dir(sys.modules[name]) for name in {PACKAGES}]; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert {"torch", "numpy"}.isdisjoint(done.stdout.split())


@pytest.mark.parametrize("package", WITH_COMPONENTS)
def test_registered_components_are_in_the_namespace(package):
    """Every class and function that a component of the package targets is a public name of the package."""
    names = [target.rpartition(":")[2] for target in targets() if target.startswith(f"{package}.")]

    assert names
    assert set(names) <= set(importlib.import_module(package).__all__)


@pytest.mark.parametrize("package", ["dovetail", *PACKAGES])
def test_every_public_name_can_be_imported(package):
    """A star import finds each name, classes and functions have their own names, and an unknown name raises."""
    namespace: dict[str, object] = {}
    exec(f"from {package} import *", namespace)  # noqa: S102 (a star import is a statement of a module)

    module = importlib.import_module(package)
    assert dir(module) == sorted(module.__all__)
    objects = {name: namespace[name] for name in module.__all__}
    defined = {name: value for name, value in objects.items() if inspect.isclass(value) or inspect.isroutine(value)}
    assert [name for name, value in defined.items() if value.__name__ != name] == []
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        getattr(module, "no_such_name")  # noqa: B009 (a plain access would be an expression without use)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_is_a_module_of_the_package(package):
    """Importing the module would replace the public name."""
    module = importlib.import_module(package)

    assert set(module.__all__).isdisjoint(found.name for found in pkgutil.iter_modules(module.__path__))
