"""Commented files with every setting and its default, as a starting point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import attrs
import tomli_w

from dovetail.config import profiles
from dovetail.config.annotations import describe, is_union, part_kind
from dovetail.config.diagnostics import ConfigError, Origin, Problem
from dovetail.config.fields import OfKind
from dovetail.config.notation import inline
from dovetail.config.plain import plain
from dovetail.config.schema import sections
from dovetail.kernel.kind import Limit
from dovetail.spec import AtLeast, Between, MoreThan
from dovetail.spec.kinds import KINDS
from dovetail.storage.atomic import make_folder, write_atomic

_INTRODUCTION: Final = """\
# Every setting of a run file, with its default. Settings that are commented out have no value by default.
#
#   dovetail config check default.toml        check the file
#   dovetail run default.toml                 train
#   dovetail plugins list                     list the types of data, model, loss …
#   dovetail plugins info cross_entropy       show the options of a type
"""
_PROFILES: Final = """\
# The profiles that come with Dovetail, for you to change. In a run file:
#
#   extends = ["profiles.toml"]
#
#   dovetail run FILE --profile ci_fast
"""
#: The required parts in the file: a first run that works.
_PARTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "data": {"type": "digits"},
    "model": {"type": "mlp", "hidden_dims": [128, 64]},
    "loss": {"type": "cross_entropy"},
}
_PHASES: Final = (
    "# [[phases]]",
    "# max_epochs = 20",
    "#",
    "# [[phases]]",
    '# optimizer = { type = "lbfgs" }',
    "# max_epochs = 5",
)
#: Optional parts: an example of each, commented out.
_EXAMPLES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "transforms": (".noise", {"type": "gaussian_noise", "std": 0.05}),
    "scheduler": ("", {"type": "warmup_cosine", "warmup": 0.1}),
    "metrics": (".accuracy", {"type": "accuracy"}),
    "callbacks": (".patience", {"type": "early_stopping", "patience": 10}),
    "trackers": (".board", {"type": "trackers.tensorboard"}),
}


def write_defaults(directory: Path) -> list[Path]:
    """Write ``default.toml``, a run file with every setting, and ``profiles.toml``; return their paths.

    Raises:
        ConfigError: one of them already exists.
        OSError: they cannot be written.
    """
    files = {directory / "default.toml": default_file(), directory / "profiles.toml": profiles_file()}
    message = "already exists; choose another folder"
    existing = [Problem(Origin(str(path)), "", message) for path in files if path.exists()]
    if existing:
        raise ConfigError(existing)
    make_folder(directory)
    for path, text in files.items():
        write_atomic(path, text.encode())
    return list(files)


def default_file() -> str:
    """Return the run file with every setting."""
    return "\n".join([_INTRODUCTION, *(line for section in sections() for line in [*_section(section), ""])])


def profiles_file() -> str:
    """Return the file with Dovetail's own profiles."""
    made = (
        profiles.ci_fast,
        profiles.quick_prototype,
        profiles.baseline,
        profiles.production,
        profiles.distributed,
        profiles.low_memory,
    )
    tables = [f"# {profile.__doc__}\n{tomli_w.dumps({'profile': {profile.__name__: profile()}})}" for profile in made]
    return "\n".join([_PROFILES, *tables])


def _section(section: attrs.Attribute[Any]) -> Iterator[str]:
    yield f"# --- {section.name}: {section.metadata['help']}"
    wanted = _wanted(section.type)
    if section.name == "phases":
        yield from _PHASES
        return
    if wanted is None:
        yield f"[{section.name}]"
        yield from _settings(section.type)
        return
    name, example = _EXAMPLES.get(section.name, ("", None))
    table = example or _PARTS.get(section.name) or {"type": wanted.default_type}
    mark = "# " if example else ""
    yield f"{mark}[{section.name}{name}]"
    for key, value in table.items():
        yield f"{mark}{key} = {inline(value)}"
    for key, reserved in KINDS[wanted.name].reserved.items():
        yield f"# {reserved.help}"
        yield f"# {key} = {inline(plain(reserved.default))}"


def _settings(cls: Any) -> Iterator[str]:
    defaults = cls()
    for field in attrs.fields(attrs.resolve_types(cls)):
        value = plain(getattr(defaults, field.name))
        limits = "".join(f", {_limit(limit)}" for limit in field.metadata.get("limits", ()))
        yield f"# {field.metadata['help']} ({describe(field.type)}{limits})"
        yield f"{'# ' if value is None else ''}{field.name} = {inline(value)}"


def _limit(limit: Limit) -> str:
    match limit:
        case Between():
            return f"{limit.low:g} to {limit.high:g}"
        case AtLeast():
            return f"at least {limit.low:g}"
        case MoreThan():
            return f"more than {limit.low:g}"
    raise AssertionError(limit)


def _wanted(annotation: Any) -> OfKind | None:
    """Return the kind of the part, or of the named parts, that a section holds."""
    members = get_args(annotation) if is_union(annotation) or get_origin(annotation) is dict else (annotation,)
    return next((kind for kind in map(part_kind, members) if kind), None)
