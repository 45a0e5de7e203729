"""The F1 score."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from dovetail.kernel.kind import Provided
from dovetail.metrics.class_counts import Average, ClassCountingMetric
from dovetail.spec.limits import AtLeast


class F1(ClassCountingMetric):
    """The harmonic mean of precision and recall, 0 to 1; not a number where no label counts.

    Its figure is called ``f1`` for the macro average, else ``f1_micro``, ``f1_weighted`` or ``f1_per_class``.

    Args:
        average: ``"macro"``, the mean over the classes that occurred; ``"micro"``, over all labels together, which is
            the accuracy; ``"weighted"``, the mean over labels; or ``"none"``, one number per class.
        num_classes: number of classes; the dataset provides it, else it is read off the outputs.
        ignore_index: a label that does not count.
        class_dim: which dimension of the outputs holds the classes; by default the one that the targets lack.

    Raises:
        ValueError: there is no such average, or ``num_classes`` is below 1.
    """

    def __init__(
        self,
        *,
        average: Average = "macro",
        num_classes: Annotated[int | None, Provided, AtLeast(1)] = None,
        ignore_index: int = -100,
        class_dim: int | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, ignore_index=ignore_index, class_dim=class_dim)
        if average not in get_args(Average):
            msg = f"average: {average!r} is not one of {', '.join(get_args(Average))}"
            raise ValueError(msg)
        self._average = average

    def compute(self) -> dict[str, Any]:
        """Return the score, or a list of one per class.

        Raises:
            ValueError: some label was none of the classes.
        """
        counts = self._class_counts()
        if self._average == "none":
            return {"f1_per_class": counts.f1().tolist()}
        name = "f1" if self._average == "macro" else f"f1_{self._average}"
        return {name: counts.mean(counts.f1(), self._average)}
