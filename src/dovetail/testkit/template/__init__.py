"""A plugin to begin with: a package that installs, passes its own tests and lints as it is written.

Needs neither torch nor the extra ``testkit``: ``dovetail plugins new`` writes it for people who have neither yet.
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

#: Where each file of ours ends up in the package that is written.
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

    The folder appears whole or not at all.

    Args:
        name: of the distribution, such as ``"yourco-losses"``; the import package is then ``yourco_losses``, and its
            components are called ``yourco_losses.…``. A leading ``dovetail-`` is left out of component names.
        directory: where the folder ``name`` is made; it is made too if need be.

    Raises:
        PluginError: the name will not do, the folder is there already, or it cannot be written.
    """
    package = _package(name)
    target = directory / name
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise PluginError(f"{target} is there already and is left as it is; choose another name or another folder")
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
            for source, place in _FILES.items():
                path = folder / Template(place).substitute(words)
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
        PluginError: the name will not do; says why.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise PluginError(
            f"'{name}' is no name for a package: letters and digits, in words joined by '-', '_' or '.', starting with "
            f"a letter, at most {_LONGEST_NAME} characters; for instance 'yourco-losses'"
        )
    package = re.sub(r"[-.]", "_", name).lower()
    if keyword.iskeyword(package) or package in sys.stdlib_module_names:
        raise PluginError(f"'{name}' would be imported as '{package}', which is Python's own; choose another name")
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        raise PluginError(
            f"'{name}' would be imported as '{package}', and a package of that name is installed already; "
            "choose another name"
        )
    return package
