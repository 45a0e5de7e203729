"""What a model returned, whatever form it came in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from torch import Tensor

_LOGITS: Final = ("logits", "output", "outputs", "prediction", "predictions")
_HIDDEN: Final = ("hidden", "hidden_states")


@frozen(eq=False)
class ModelOutput:
    """The outputs of one forward pass.

    Attributes:
        logits: what the loss and the metrics read: class scores ``[batch, classes, …]``, predictions, token
            scores.
        loss: a loss that the model computed itself, if it did.
        hidden: the inner representation it offers, if any: a latent vector, or a tuple with one tensor per
            layer.
        extras: everything else it returned, by name, or by position for a tuple.
    """

    logits: Tensor
    loss: Tensor | None = None
    hidden: Any = None
    extras: dict[str, Any] = field(factory=dict)

    @classmethod
    def from_raw(cls, raw: Any) -> ModelOutput:
        """Read whatever a model returned.

        Args:
            raw: a tensor; a mapping with ``logits``, ``output``, ``outputs``, ``prediction`` or
                ``predictions``; an object with an attribute ``logits``; a tuple or list with the logits
                first, or after a loss, a tensor of no dimension; or a ``ModelOutput``.

        Raises:
            TypeError: it is none of these; the message says what it is.
        """
        from torch import Tensor

        if isinstance(raw, Tensor):
            return cls(raw)
        if isinstance(raw, cls):
            return raw
        if isinstance(raw, Mapping):
            named = dict(raw)
            key = next((name for name in _LOGITS if name in named), None)
            if key is None:
                names = ", ".join(map(str, named)) or "nothing"
                msg = f"the model returned a mapping with {names}; it needs one of {', '.join(_LOGITS)}"
                raise TypeError(msg)
            logits = named.pop(key)
            hidden = next((named.pop(name) for name in _HIDDEN if name in named), None)
            found = cls(logits, named.pop("loss", None), hidden, named)
        elif hasattr(raw, "logits"):
            hidden = next((getattr(raw, name) for name in _HIDDEN if hasattr(raw, name)), None)
            found = cls(raw.logits, getattr(raw, "loss", None), hidden)
        elif isinstance(raw, tuple | list) and raw:
            own = len(raw) > 1 and isinstance(raw[0], Tensor) and raw[0].ndim == 0
            rest = {str(place): value for place, value in enumerate(raw) if place > own}
            found = cls(raw[own], raw[0] if own else None, extras=rest)
        else:
            what = f"an empty {type(raw).__name__}" if isinstance(raw, tuple | list) else type(raw).__name__
            msg = (
                f"the model returned {what}; a loss reads a tensor, a tuple with the logits first, "
                "a mapping with 'logits', or an object with .logits"
            )
            raise TypeError(msg)
        first: Any = found.logits  # a duck-typed model may have put anything there
        if not isinstance(first, Tensor):
            got = type(first).__name__
            msg = f"the model returned {type(raw).__name__} whose logits are {got}, not a tensor"
            raise TypeError(msg)
        return found
