"""Tests of how the kit calls losses and metrics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import strategies as st

from dovetail.spec.plugins import Plugins
from dovetail.testkit import run_checks
from dovetail.testkit.cases import EXAMPLES, classification
from dovetail.testkit.evaluation import LossUnderTest, form_problem
from dovetail.testkit.subject import Subject
from planted import plugin


@pytest.fixture(scope="module")
def plugins():
    """The installed plugins and the planted components."""
    found = Plugins.discover()
    found.register(plugin, distribution="planted", version="1.0")
    return found


def test_the_gradient_of_a_loss_is_that_of_autograd():
    """The kit returns total and gradient of cross-entropy, and None where no gradient reaches the logits."""
    loss = LossUnderTest.built(Subject.find("cross_entropy", kind="loss"))
    case = EXAMPLES["classification"]

    total, gradient = loss.gradient(case)

    logits = case.logits.clone().requires_grad_()
    expected = torch.nn.functional.cross_entropy(logits, case.batch["targets"])
    expected.backward()
    assert torch.equal(total, expected.detach())
    assert torch.equal(gradient, logits.grad)


def test_the_problem_of_a_form_is_its_error(plugins):
    """A classification loss accepts class labels, and the kit reports its error for regression targets."""
    subject = Subject.find("planted.sound", plugins=plugins)

    assert form_problem(subject, "classification") is None
    assert form_problem(subject, "regression").startswith("ValueError: outputs have shape")


def test_batches_of_the_author_are_used(plugins):
    """The component gets the author's batches, as cases or as pairs."""
    seen = []

    def pairs(case):
        seen.append(case)
        return case.logits, {**case.batch, "meta": {"rpm": torch.ones(len(case))}}

    results = run_checks("planted.sound", plugins=plugins, batches=classification().map(pairs))

    assert not [result for result in results if result.status == "failed"]
    assert len(seen) > 50


def test_other_batches_of_the_author_are_an_error(plugins):
    """A strategy that draws neither cases nor pairs fails with a clear message."""
    results = run_checks("planted.sound", plugins=plugins, batches=st.just(3))

    assert any("must draw a Case or a pair" in result.message for result in results)
