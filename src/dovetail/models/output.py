"""The outputs of a model in one form, whatever form the model returns."""

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
        logits: what losses and metrics read: class scores ``[batch, classes, …]``, predicted values, or token scores.
        loss: the loss, if the model computed one itself.
        hidden: the model's internal representation, if it returns one: a latent vector, or a tuple with one tensor per
            layer.
        extras: everything else that the model returned, by name, or by position for a tuple.
    """

    logits: Tensor
    loss: Tensor | None = None
    hidden: Any = None
    extras: dict[str, Any] = field(factory=dict)

    @classmethod
    def from_raw(cls, raw: Any) -> ModelOutput:
        """Return the outputs in the form that losses and metrics read.

        Args:
            raw: what the model returned: a tensor; a mapping with ``logits``, ``output``, ``outputs``, ``prediction``
                or ``predictions``; an object with an attribute ``logits``; a tuple or list with the logits first, or
                second after a scalar loss; or a ``ModelOutput``.

        Raises:
            TypeError: ``raw`` is none of these; the message names its type.
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
                raise TypeError(f"the model returned a mapping with {names}; it needs one of {', '.join(_LOGITS)}")
            logits = named.pop(key)
            hidden = next((named.pop(name) for name in _HIDDEN if name in named), None)
            output = cls(logits, named.pop("loss", None), hidden, named)
        elif hasattr(raw, "logits"):
            hidden = next((getattr(raw, name) for name in _HIDDEN if hasattr(raw, name)), None)
            output = cls(raw.logits, getattr(raw, "loss", None), hidden)
        elif isinstance(raw, tuple | list) and raw:
            has_loss = len(raw) > 1 and isinstance(raw[0], Tensor) and raw[0].ndim == 0
            rest = {str(place): value for place, value in enumerate(raw) if place > has_loss}
            output = cls(raw[has_loss], raw[0] if has_loss else None, extras=rest)
        else:
            what = f"an empty {type(raw).__name__}" if isinstance(raw, tuple | list) else type(raw).__name__
            raise TypeError(
                f"the model returned {what}; a loss reads a tensor, a tuple with the logits first, "
                "a mapping with 'logits', or an object with .logits"
            )
        first: Any = output.logits  # any type, in a mapping, object or tuple
        if not isinstance(first, Tensor):
            got = type(first).__name__
            raise TypeError(f"the model returned {type(raw).__name__} whose logits are {got}, not a tensor")
        return output
