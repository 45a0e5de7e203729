"""A template for plugins: a package that installs, passes its tests and lints without changes.

This module needs neither torch nor the extra ``testkit``, so ``dovetail plugins new`` works without them.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from dovetail import __version__
from dovetail.kernel.component import PluginError

#: The path of each template file in the new package.
_FILES: Final = {
    "gitignore.tmpl": ".gitignore",
    "LICENSE.tmpl": "LICENSE",
    "README.md.tmpl": "README.md",
    "pyproject.toml.tmpl": "pyproject.toml",
    "run.toml.tmpl": "run.toml",
    "__init__.py.tmpl": "src/${package}/__init__.py",
    "plugin.py.tmpl": "src/${package}/plugin.py",
    "losses.py.tmpl": "src/${package}/losses.py",
    "schedulers.py.tmpl": "src/${package}/schedulers.py",
    "py.typed.tmpl": "src/${package}/py.typed",
    "test_conformance.py.tmpl": "tests/test_conformance.py",
}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_.][A-Za-z0-9]+)*")
_LONGEST_NAME: Final = 60


def write_plugin(name: str, directory: Path) -> Path:
    """Write a package with a loss, a scheduler, their conformance tests and a run file; return its folder.

    The folder is written completely or not at all.

    Args:
        name: the distribution's name, such as ``"yourco-losses"``; the import package is then ``yourco_losses``, and
            component names start with ``yourco_losses.``. Component names omit a leading ``dovetail-``.
        directory: the parent of the new folder; created if it does not exist.

    Raises:
        PluginError: the name is invalid, the folder exists already, or it cannot be written.
    """
    package = _package(name)
    target = directory / name
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise PluginError(f"{target} exists already and was not changed; choose another name or another folder")
    words = {
        "name": name,
        "package": package,
        "prefix": package.removeprefix("dovetail_"),
        "dovetail": ".".join(__version__.split(".")[:2]),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".dovetail-") as work:
            folder = Path(work) / name
            for source, target_name in _FILES.items():
                path = folder / Template(target_name).substitute(words)
                path.parent.mkdir(parents=True, exist_ok=True)
                text = resources.files(__name__).joinpath(source).read_text(encoding="utf-8")
                path.write_text(Template(text).substitute(words), encoding="utf-8")
            folder.replace(target)
    except OSError as error:
        raise PluginError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


def _package(name: str) -> str:
    """Return the import package of a distribution.

    Raises:
        PluginError: the name is invalid; the message says why.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise PluginError(
            f"'{name}' is not a valid package name; use words of letters and digits joined by '-', '_' or '.', "
            f"starting with a letter, at most {_LONGEST_NAME} characters, such as 'yourco-losses'"
        )
    package = re.sub(r"[-.]", "_", name).lower()
    if keyword.iskeyword(package) or package in sys.stdlib_module_names:
        raise PluginError(
            f"'{name}' would be imported as '{package}', a name that Python itself uses; choose another name"
        )
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        raise PluginError(
            f"'{name}' would be imported as '{package}', but a package of that name is already installed; "
            "choose another name"
        )
    return package
