"""The whole configuration as an OmegaConf ``DictConfig``, for those who come from Hydra (extra ``omegaconf``)."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from dovetail.config.schema import RunConfig

#: What OmegaConf would take for the beginning of an interpolation, with the backslashes before it.
_DOLLAR: Final = re.compile(r"(\\*)\$\{")


def to_omegaconf(config: RunConfig) -> DictConfig:
    """Return ``config``, defaults included, as a ``DictConfig``.

    Secrets become ``${oc.env:NAME}``, read when asked for; dates become text, as OmegaConf has none; a part passed from
    Python becomes the name of its class.

    Raises:
        ImportError: OmegaConf is not installed.
    """
    try:
        from omegaconf import OmegaConf
    except ImportError as error:
        msg = "OmegaConf is not installed; pip install 'dovetail[omegaconf]'"
        raise ImportError(msg) from error
    made: DictConfig = OmegaConf.create(_node(config.to_dict()))
    return made


def _node(value: Any) -> Any:
    match value:
        case {"env": str(name), **rest} if not rest:
            return f"${{oc.env:{name}}}"
        case dict():
            return {name: _node(one) for name, one in value.items()}
        case list():
            return [_node(one) for one in value]
        case str():
            return _DOLLAR.sub(lambda match: rf"{match[1] * 2}\${{", value)
        case dt.date() | dt.time():
            return value.isoformat()
        case _:
            return value
