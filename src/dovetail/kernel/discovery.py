"""Finding installed plugins from the metadata of distributions, without importing them.

``importlib.metadata`` does the same, but importing it takes longer than everything else that ``--help`` does, and it
reads each distribution's whole metadata. The recording format is a published
specification (a folder ``NAME-VERSION.dist-info`` beside the packages, with ``entry_points.txt`` in INI
form), so it is read directly; ``importlib.metadata`` is used only where packages do not lie in plain folders.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Iterator
from typing import Literal

from attrs import frozen

GROUP = "dovetail"
_HEADER = f"[{GROUP}]"


@frozen(order=True)
class EntryPoint:
    """One line of an installed distribution's entry points in the group ``dovetail``."""

    distribution: str
    name: str
    #: ``"package.module"`` or ``"package.module:attribute"``.
    value: str
    version: str


def normalize(name: str) -> str:
    """Return a distribution's name in normalized form: lower case, runs of ``-_.`` as one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_entry_points() -> list[EntryPoint]:
    """Return the entry points of every installed plugin, sorted by distribution and name.

    The order depends on names alone, never on the order of files on the disk. Of a distribution that is
    installed twice, the first on ``sys.path`` counts, as for imports.
    """
    found: dict[str, list[EntryPoint]] = {}
    for distribution, version, text in _recorded_in_folders():
        if distribution not in found:
            found[distribution] = list(_parse(text, distribution, version))
    if GROUP not in found:  # not even Dovetail lies in a plain folder: a zip application, a custom importer
        for distribution, version, text in _recorded_elsewhere():
            if distribution not in found:
                found[distribution] = list(_parse(text, distribution, version))
    return sorted(entry for entries in found.values() for entry in entries)


def left_out(blocked: Collection[str] | Literal[True] = ()) -> tuple[set[str], bool]:
    """Return the names of distributions and entry points to leave out, and whether all but Dovetail's own are.

    Args:
        blocked: names, or True for all; the environment variable ``DOVETAIL_NO_PLUGINS`` adds to them.
    """
    names: set[str] = set() if blocked is True else {normalize(name.strip()) for name in blocked}
    written = os.environ.get("DOVETAIL_NO_PLUGINS", "").split(",")
    names |= {normalize(name.strip()) for name in written if name.strip()}
    return names - {"all"}, blocked is True or "all" in names


def _recorded_in_folders() -> Iterator[tuple[str, str, str]]:
    """Yield (normalized name, version, text of entry_points.txt) of distributions that name our group."""
    for folder in sys.path:
        try:
            with os.scandir(folder or ".") as entries:
                names = [entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for name in names:
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:  # noqa: PTH118,PTH123 (pathlib costs start-up time)
                    text = file.read()
            except (OSError, UnicodeDecodeError):
                continue
            if _HEADER in text:
                stem, _, suffix = name.rpartition(".")
                # "name-1.2.dist-info", "name-1.2-py3.11.egg-info", "name.egg-info": a version has no dash, an
                # old name may.
                label, _, version = stem.rpartition("-") if suffix == "dist-info" else stem.partition("-")
                label, version = label or stem, version.partition("-py")[0]
                yield normalize(label), version or _version_in(os.path.join(folder, name)), text  # noqa: PTH118 (as above)


def _version_in(folder: str) -> str:
    """Return the version that an ``.egg-info`` folder without one in its name records (an uninstalled source tree)."""
    try:
        with open(os.path.join(folder, "PKG-INFO"), encoding="utf-8") as file:  # noqa: PTH118,PTH123 (as above)
            return next((line[9:].strip() for line in file if line.startswith("Version: ")), "")
    except (OSError, UnicodeDecodeError):
        return ""


def _recorded_elsewhere() -> Iterator[tuple[str, str, str]]:
    from importlib import metadata  # slow to import and rarely needed

    for distribution in metadata.distributions():
        text = distribution.read_text("entry_points.txt") or ""
        if _HEADER in text:
            yield normalize(distribution.name), distribution.version, text


def _parse(text: str, distribution: str, version: str) -> Iterator[EntryPoint]:
    inside = False
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("["):
            inside = line == _HEADER
        elif inside and "=" in line and not line.startswith(("#", ";")):
            name, value = (part.strip() for part in line.split("=", 1))
            yield EntryPoint(distribution, name, value.partition("[")[0].strip(), version)
