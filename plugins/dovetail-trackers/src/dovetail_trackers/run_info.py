"""What every tracker records: a run's settings without secrets, its metrics, its outcome and its results' places."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from dovetail import Outcome, Run

#: User name and password in a URL, up to the last ``@`` before the path.
_CREDENTIALS: Final = re.compile(r"(?<=://)[^/\s?#]*@")
#: Options whose value is hidden if it is written out instead of as `{ env = "NAME" }`.
_SECRET: Final = re.compile(r"(^|_)(api_?key|password|passwd|secret)$", re.IGNORECASE)
_HIDDEN: Final = "***"


def require_installed(module: str, extra: str) -> None:
    """Check that a library is installed, without importing it.

    Raises:
        ModuleNotFoundError: it is not installed; the message has the command to install it.
    """
    if importlib.util.find_spec(module) is None:
        raise ModuleNotFoundError(f"{module} is not installed: pip install 'dovetail-trackers[{extra}]'")


def settings_without_secrets(run: Run) -> dict[str, Any]:
    """Return the resolved configuration as plain tables, without secrets.

    A secret appears as the name of its environment variable. User name and password in a URL, and the values of options
    such as ``api_key`` and ``password``, are replaced by ``***``.
    """
    return {name: _clean(value) for name, value in run.config.to_dict().items()}


def flat_settings(run: Run) -> dict[str, bool | int | float | str]:
    """Return the resolved configuration as dotted path to value; lists become text, unset values the empty text."""
    return dict(_flat("", settings_without_secrets(run)))


def result_uris(run: Run) -> dict[str, str]:
    """Return the URIs of the run's folder, checkpoints and, if they exist, report and best checkpoint."""
    found = {"folder": run.store.path, "checkpoints": run.store.checkpoints}
    report = run.store.path / "report.html"
    if run.config.report.enabled:
        found["report"] = report
    best = run.checkpoints.best()
    if best is not None:
        found["best_checkpoint"] = best.path
    return {name: path.absolute().as_uri() for name, path in found.items()}


def without_repeats(event: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of an event without repeats: the end of an epoch repeats those of its validation."""
    return {name: value for name, value in metrics.items() if event != "epoch" or not name.startswith("val_")}


def outcome_facts(outcome: Outcome) -> dict[str, str]:
    """Return status, reason and stopper of a run, as far as they are known."""
    facts = {"status": outcome.status, "reason": outcome.reason, "stopped_by": outcome.stopped_by}
    return {name: _without_credentials(value) for name, value in facts.items() if value}


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
