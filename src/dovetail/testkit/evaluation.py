"""Call losses and metrics with cases, and find the cases that they accept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from attrs import frozen
from hypothesis import strategies as st
from torch import Tensor, nn

from dovetail.losses.adapt import as_loss
from dovetail.losses.result import LossResult
from dovetail.testkit.cases import EXAMPLES, FORMS, Case, read_case
from dovetail.testkit.registry import CheckFailed, NotApplicable, fail
from dovetail.testkit.subject import Subject


@frozen
class LossUnderTest:
    """A loss as the trainer calls it."""

    #: The object that the factory returned.
    raw: Any
    #: The loss adapted to ``(outputs, batch)``.
    call: Callable[..., LossResult]

    @classmethod
    def built(cls, subject: Subject, dtype: torch.dtype = torch.float32) -> LossUnderTest:
        """Build the loss; convert the parameters of a module to ``dtype``.

        Raises:
            CheckFailed: the factory returned something that cannot be used as a loss.
            NotApplicable: the loss cannot be built.
        """
        raw = subject.build()
        if isinstance(raw, nn.Module):
            raw = raw.to(dtype)
        try:
            return cls(raw, as_loss(raw))
        except (TypeError, ValueError) as error:
            fail(f"{subject.name} cannot be used as a loss: {error}")

    def __call__(self, case: Case) -> LossResult:
        """Return the loss of a case."""
        return self.call(case.outputs, case.batch)

    def gradient(self, case: Case) -> tuple[Tensor, Tensor | None]:
        """Return the total of a case and its gradient with respect to the logits; None if no gradient reaches them."""
        logits = case.logits.detach().clone().requires_grad_()
        total = self(case.with_logits(logits)).total
        if not total.requires_grad:
            return total, None
        (gradient,) = torch.autograd.grad(total, logits, allow_unused=True)
        return total.detach(), gradient


def fitting_cases(subject: Subject, min_size: int = 1, max_size: int = 6) -> st.SearchStrategy[Case]:
    """Return cases for a loss or a metric: the author's, else the forms it claims, else a form that it accepts.

    Raises:
        NotApplicable: it accepts none of the forms, which the check ``takes_a_batch`` reports.
    """
    if subject.batches is not None:
        return subject.batches.map(read_case).filter(lambda case: len(case) >= min_size)
    forms = claimed_forms(subject) or [form for form in FORMS if form_problem(subject, form) is None][:1]
    if not forms:
        raise NotApplicable(f"it accepts none of the kit's batches; see {subject.kind}.takes_a_batch")
    return st.one_of([FORMS[form](min_size, max_size) for form in forms])


def claimed_forms(subject: Subject) -> list[str]:
    """Return the forms of batches that the component's traits claim."""
    return [form for form in FORMS if form in subject.traits]


def form_problem(subject: Subject, form: str) -> str | None:
    """Return the error that a case of this form raises, or None if the component accepts it."""
    case = EXAMPLES[form]
    try:
        if subject.kind == "metric":
            metric = subject.build()
            metric.update(case.outputs, case.batch)
            metric.compute()
            return None
        total = LossUnderTest.built(subject)(case).total
    except (CheckFailed, NotApplicable):
        raise
    except Exception as error:  # noqa: BLE001 (any exception means that the form does not fit)
        return f"{type(error).__name__}: {error}"
    return None if bool(torch.isfinite(total).all()) else "the loss is not finite"


def takes_a_batch(subject: Subject) -> None:
    """Raise unless the component accepts every form that its traits claim or, without claims, at least one form.

    Raises:
        CheckFailed: with the error for each form.
    """
    if subject.batches is not None:
        return
    claimed = claimed_forms(subject)
    problems = {form: problem for form in claimed or FORMS if (problem := form_problem(subject, form))}
    if len(problems) < len(claimed or FORMS) and not (claimed and problems):
        return
    errors = "\n".join(f"  {form}: {problem}" for form, problem in problems.items())
    advice = (
        "Remove these traits, or accept such batches."
        if claimed
        else f"Add a trait ({', '.join(FORMS)}), or pass conformance() a strategy of batches that fit, batches=."
    )
    fail(f"{subject.name} does not accept these forms of batches:\n{errors}\n{advice}")
