"""Commented files with every setting and its default, to start from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args, get_origin

import attrs
import tomli_w

from dovetail.config import profiles
from dovetail.config.diagnostics import ConfigError, Origin, Problem
from dovetail.config.notation import inline
from dovetail.config.plain import plain
from dovetail.config.schema import sections
from dovetail.config.settings import OfKind
from dovetail.config.words import describe, is_union, part_kind
from dovetail.kernel.kind import Limit
from dovetail.spec.kinds import KINDS
from dovetail.spec.limits import AtLeast, Between, MoreThan
from dovetail.storage.atomic import make_folder, write_atomic

_INTRODUCTION: Final = """\
# Every setting of a run file, with its default. What is commented out is not set unless you set it.
#
#   dovetail config check default.toml        is everything in order?
#   dovetail run default.toml                 train
#   dovetail plugins list                     every type that data, model, loss … can be
#   dovetail plugins info cross_entropy       what one of them takes
"""
_PROFILES: Final = """\
# The profiles that come with Dovetail, to be changed. In a run file:
#
#   extends = ["profiles.toml"]
#
#   dovetail run FILE --profile ci_fast
"""
#: What the parts of a run are, in the file: a first run that works.
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
#: Parts that a run may do without: an example of each, commented out.
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
        ConfigError: one of them is there already.
        OSError: they cannot be written.
    """
    files = {directory / "default.toml": default_file(), directory / "profiles.toml": profiles_file()}
    there = [Problem(Origin(str(path)), "", "is there already; name another folder") for path in files if path.exists()]
    if there:
        raise ConfigError(there)
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
    tables = [f"# {(one.__doc__ or '').strip()}\n{tomli_w.dumps({'profile': {one.__name__: one()}})}" for one in made]
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
    for one in attrs.fields(attrs.resolve_types(cls)):
        value = plain(getattr(defaults, one.name))
        limits = "".join(f", {_limit(limit)}" for limit in one.metadata.get("limits", ()))
        yield f"# {one.metadata['help']} ({describe(one.type)}{limits})"
        yield f"{'# ' if value is None else ''}{one.name} = {inline(value)}"


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
    """Return of which kind the part, or each of the named parts, of a section is."""
    members = get_args(annotation) if is_union(annotation) or get_origin(annotation) is dict else (annotation,)
    return next((kind for kind in map(part_kind, members) if kind), None)
