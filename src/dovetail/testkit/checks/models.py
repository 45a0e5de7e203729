"""Models: they train, restore their state, and in evaluation treat each sample independently."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from attrs import frozen
from hypothesis import strategies as st
from torch import Tensor, nn

from dovetail.models.output import ModelOutput
from dovetail.testkit.properties import for_all
from dovetail.testkit.provide import INPUT_SHAPES, NUM_CLASSES
from dovetail.testkit.registry import NotApplicable, check, expect
from dovetail.testkit.subject import Subject

_SAMPLES: Final = 4
_TOKENS: Final = 6  # length of a token sequence


@frozen
class _Fitting:
    """An input shape that the model accepts, and a strategy of such inputs."""

    input_shape: tuple[int, ...]
    inputs: st.SearchStrategy[Any]

    def model(self, subject: Subject, seed: int = 0) -> nn.Module:
        """Build the model with initial weights that depend only on ``seed``."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: nn.Module = subject.build(input_shape=self.input_shape)
        return model


def _floats(shape: tuple[int, ...]) -> st.SearchStrategy[Tensor]:
    return st.integers(0, 1000).map(
        lambda seed: torch.randn(_SAMPLES, *shape, generator=torch.Generator().manual_seed(seed))
    )


def _tokens() -> st.SearchStrategy[Tensor]:
    return st.integers(0, 1000).map(
        lambda seed: torch.randint(NUM_CLASSES, (_SAMPLES, _TOKENS), generator=torch.Generator().manual_seed(seed))
    )


def _run(model: nn.Module, inputs: Any) -> ModelOutput:
    return ModelOutput.from_raw(model(**inputs) if isinstance(inputs, dict) else model(inputs))


def _fitting(subject: Subject) -> _Fitting:
    """Return inputs for the model: the author's, else tokens, else floats in one of the kit's shapes.

    Raises:
        NotApplicable: it accepts none of them, which the check ``model.takes_inputs`` reports.
    """
    if subject.batches is not None:
        return _Fitting(INPUT_SHAPES[0], subject.batches)
    fitting, _ = _search(subject)
    if fitting is None:
        raise NotApplicable("it accepts none of the kit's inputs; see model.takes_inputs")
    return fitting


def _search(subject: Subject) -> tuple[_Fitting | None, list[str]]:
    """Return the first inputs that the model accepts, or None, and the errors of those tried before."""
    problems = []
    candidates = [_Fitting(shape, _floats(shape)) for shape in INPUT_SHAPES]
    if "vocab_size" in subject.signature.parameters:
        candidates.insert(0, _Fitting((_TOKENS,), _tokens()))
    for candidate in candidates:
        inputs = torch.zeros(_SAMPLES, *candidate.input_shape)
        if candidate.input_shape == (_TOKENS,):
            inputs = inputs.long()
        try:
            _run(candidate.model(subject), inputs)
        except NotApplicable:
            continue  # the model cannot be built for this shape
        except Exception as error:  # noqa: BLE001 (any exception means that the inputs do not fit)
            problems.append(f"{list(inputs.shape)}: {type(error).__name__}: {error}")
        else:
            return candidate, problems
    return None, problems


@check("model")
def takes_inputs(subject: Subject) -> None:
    """It accepts a batch of tokens or floats, or the author's inputs, and returns outputs that a run can read."""
    if subject.batches is not None:
        return
    subject.build()
    fitting, problems = _search(subject)
    errors = "\n  ".join(problems)
    expect(
        fitting,
        f"it accepts none of the kit's inputs:\n  {errors}\nPass conformance() a strategy of inputs that fit, "
        "batches=.",
    )


@check("model")
def is_a_module_with_parameters(subject: Subject) -> None:
    """It is a ``torch.nn.Module`` with at least one trainable parameter."""
    model = subject.build()
    expect(isinstance(model, nn.Module), f"the factory returned a {type(model).__name__}, not a torch.nn.Module")
    expect(any(parameter.requires_grad for parameter in model.parameters()), "it has no trainable parameters")


@check("model")
def trains(subject: Subject) -> None:
    """Its outputs and gradients are finite, and a gradient reaches every trainable parameter."""
    fitting = _fitting(subject)
    model = fitting.model(subject)
    reached: set[str] = set()

    def learns(inputs: Any) -> None:
        model.zero_grad(set_to_none=True)
        logits = _run(model, inputs).logits
        expect(torch.isfinite(logits).all(), "its outputs are not finite")
        expect(
            len(logits) == _SAMPLES or subject.batches is not None,
            f"it returned {len(logits)} outputs for {_SAMPLES} samples",
        )
        logits.float().square().mean().backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                expect(torch.isfinite(parameter.grad).all(), f"the gradient of '{name}' is not finite")
                reached.add(name)

    for_all(learns, inputs=fitting.inputs, fraction=0.05)
    trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    missed = ", ".join(name for name in trainable if name not in reached)
    expect(not missed, f"no gradient reaches the parameters {missed}; use them in forward(), or freeze them")


@check("model")
def evaluation_is_deterministic(subject: Subject) -> None:
    """In evaluation mode the same input gives the same output bit for bit, with any random state."""
    fitting = _fitting(subject)
    model = fitting.model(subject).eval()

    def repeats_itself(inputs: Any, seed: int) -> None:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            first = _run(model, inputs).logits
            torch.manual_seed(seed)
            expect(
                torch.equal(first, _run(model, inputs).logits),
                "in evaluation mode the same input gives different outputs; use dropout and noise only if "
                "self.training",
            )

    for_all(repeats_itself, inputs=fitting.inputs, seed=st.integers(1, 100), fraction=0.05)


@check("model", unless="couples_samples")
def samples_do_not_mix_in_evaluation(subject: Subject) -> None:
    """In evaluation mode the output for a sample does not depend on the other samples of its batch."""
    fitting = _fitting(subject)
    model = fitting.model(subject).eval()

    def stands_alone(inputs: Any) -> None:
        with torch.no_grad():
            together = _run(model, inputs).logits
            for index in range(len(together)):
                row = slice(index, index + 1)
                alone = _run(
                    model,
                    {name: value[row] for name, value in inputs.items()} if isinstance(inputs, dict) else inputs[row],
                ).logits
                expect(
                    torch.allclose(together[row], alone, rtol=1e-3, atol=1e-5),
                    f"in evaluation mode the output for sample {index} depends on the other samples of its batch. "
                    "If this is intended, add the trait 'couples_samples'.",
                )

    for_all(stands_alone, inputs=fitting.inputs, fraction=0.05)


@check("model")
def state_round_trips(subject: Subject) -> None:
    """A new instance with other initial weights that loads its ``state_dict`` gives the same outputs."""
    fitting = _fitting(subject)
    first, second = fitting.model(subject, seed=0), fitting.model(subject, seed=1)

    def agrees(inputs: Any) -> None:
        first.train()
        with torch.no_grad():
            _run(first, inputs)  # updates running statistics
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        with torch.no_grad():
            same = torch.equal(_run(first.eval(), inputs).logits, _run(second.eval(), inputs).logits)
        expect(
            same,
            "a new instance that loads its state_dict gives other outputs: some of its state is neither a parameter "
            "nor a buffer",
        )

    for_all(agrees, inputs=fitting.inputs, fraction=0.05)
