"""What every tracker records of a run: its settings, without secrets, and where its results are."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dovetail import Outcome, Run

#: Name and password in a URL, up to the last ``@`` before its path.
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s?#]*@")
#: Options whose value is hidden although it was written out, where `{ env = "NAME" }` should have been.
_SECRET: Final = re.compile(r"(^|_)(api_?key|password|passwd|secret)$", re.IGNORECASE)
_HIDDEN: Final = "***"


def require_installed(module: str, extra: str) -> None:
    """Make sure that a library is installed, without importing it.

    Raises:
        ModuleNotFoundError: it is not; says what to install.
    """
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"needs {module}: pip install 'dovetail-trackers[{extra}]'")


def settings_without_secrets(run: Run) -> dict[str, Any]:
    """Return the resolved configuration as plain tables.

    A secret is given by the name of its variable. What should have been one is hidden: name and password in a URL, and
    options such as ``api_key`` and ``password``.
    """
    return {name: _clean(value) for name, value in run.config.to_dict().items()}


def flat_settings(run: Run) -> dict[str, bool | int | float | str]:
    """Return the resolved configuration flat: dotted path to value, lists and what is not set as text."""
    return dict(_flat("", settings_without_secrets(run)))


def result_uris(run: Run) -> dict[str, str]:
    """Return where the results of a run are, as far as they are there: folder, report, checkpoints, best checkpoint."""
    found = {"folder": run.store.path, "checkpoints": run.store.checkpoints}
    report = run.store.path / "report.html"
    if run.config.report.enabled:
        found["report"] = report
    best = run.checkpoints.best()
    if best is not None:
        found["best_checkpoint"] = best.path
    return {name: path.absolute().as_uri() for name, path in found.items()}


def without_repeats(event: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of an event that were not told before: the end of an epoch tells its validation's again."""
    return {name: value for name, value in metrics.items() if event != "epoch" or not name.startswith("val_")}


def outcome_facts(outcome: Outcome) -> dict[str, str]:
    """Return how a run ended, in words."""
    told = {"status": outcome.status, "reason": outcome.reason, "stopped_by": outcome.stopped_by}
    return {name: _without_credentials(value) for name, value in told.items() if value}


def _clean(value: Any) -> Any:
    match value:
        case str():
            return _without_credentials(value)
        case Mapping():
            return {name: _HIDDEN if _is_secret(name, item) else _clean(item) for name, item in value.items()}
        case list():
            return [_clean(item) for item in value]
    return value


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and _SECRET.search(name) is not None


def _without_credentials(text: str) -> str:
    return _CREDENTIALS.sub(f"{_HIDDEN}@", text)


def _flat(path: str, value: Any) -> Iterator[tuple[str, bool | int | float | str]]:
    match value:
        case {"env": str(name), **rest} if not rest:
            yield path, f"env:{name}"
        case Mapping():
            for name, item in value.items():
                yield from _flat(f"{path}.{name}" if path else name, item)
        case bool() | int() | float() | str():
            yield path, value
        case _:
            yield path, "" if value is None else str(value)
