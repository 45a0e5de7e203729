"""Models: they train, they can be saved, and in evaluation a sample's output is its own."""

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
_TOKENS: Final = 6  # the length of a sequence of tokens


@frozen
class _Fitting:
    """How to build the model, and what to feed it."""

    input_shape: tuple[int, ...]
    inputs: st.SearchStrategy[Any]

    def model(self, subject: Subject, seed: int = 0) -> nn.Module:
        """Build the model with initial weights that depend on ``seed`` alone."""
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
    """Return what the model takes: the author's inputs, else tokens, else floating inputs of one of the kit's shapes.

    Raises:
        NotApplicable: it takes none of them; the check ``model.takes_inputs`` says so.
    """
    if subject.batches is not None:
        return _Fitting(INPUT_SHAPES[0], subject.batches)
    return _search(subject)[0] or _give_up()


def _give_up() -> _Fitting:
    raise NotApplicable("it takes none of the kit's inputs: see model.takes_inputs")


def _search(subject: Subject) -> tuple[_Fitting | None, list[str]]:
    """Return what the model takes, and what happened with everything that was tried before."""
    problems = []
    candidates = [_Fitting(shape, _floats(shape)) for shape in INPUT_SHAPES]
    if "vocab_size" in subject.signature.parameters:
        candidates.insert(0, _Fitting((_TOKENS,), _tokens()))
    for one in candidates:
        inputs = (
            torch.zeros(_SAMPLES, *one.input_shape)
            if one.input_shape != (_TOKENS,)
            else torch.zeros(_SAMPLES, _TOKENS).long()
        )
        try:
            _run(one.model(subject), inputs)
        except NotApplicable:
            continue  # it can be built for another shape only
        except Exception as error:  # noqa: BLE001 (whatever it raises means that these inputs do not fit)
            problems.append(f"{list(inputs.shape)}: {type(error).__name__}: {error}")
        else:
            return one, problems
    return None, problems


@check("model")
def takes_inputs(subject: Subject) -> None:
    """It takes a batch of tokens or of floating inputs, or what the author draws, and returns readable outputs."""
    if subject.batches is not None:
        return
    subject.build()
    found, problems = _search(subject)
    said = "\n  ".join(problems)
    expect(
        found,
        f"it takes none of the kit's inputs:\n  {said}\nGive conformance() batches=, a strategy of inputs that fit.",
    )


@check("model")
def is_a_module_with_parameters(subject: Subject) -> None:
    """It is a ``torch.nn.Module``, and has something to train."""
    model = subject.build()
    expect(isinstance(model, nn.Module), f"the factory returned {type(model).__name__}, not a torch.nn.Module")
    expect(any(one.requires_grad for one in model.parameters()), "it has no trainable parameter")


@check("model")
def trains(subject: Subject) -> None:
    """Outputs and gradients are finite, and a gradient reaches every trainable parameter."""
    fitting = _fitting(subject)
    model = fitting.model(subject)
    reached: set[str] = set()

    def learns(inputs: Any) -> None:
        model.zero_grad(set_to_none=True)
        logits = _run(model, inputs).logits
        expect(torch.isfinite(logits).all(), "its outputs are not finite")
        expect(len(logits) == _SAMPLES or subject.batches is not None, f"{_SAMPLES} samples gave {len(logits)} outputs")
        logits.float().square().mean().backward()  # type: ignore[no-untyped-call] # torch leaves it untyped
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                expect(torch.isfinite(parameter.grad).all(), f"the gradient of '{name}' is not finite")
                reached.add(name)

    for_all(learns, inputs=fitting.inputs, share=0.05)
    missed = [name for name, one in model.named_parameters() if one.requires_grad and name not in reached]
    expect(not missed, f"no gradient reaches the parameter '{missed[:1]}': it is never trained. Use it, or freeze it.")


@check("model")
def evaluation_is_deterministic(subject: Subject) -> None:
    """In evaluation mode the same input gives the same bits, whatever the random generators did."""
    fitting = _fitting(subject)
    model = fitting.model(subject).eval()

    def repeats_itself(inputs: Any, seed: int) -> None:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            first = _run(model, inputs).logits
            torch.manual_seed(seed)
            expect(
                torch.equal(first, _run(model, inputs).logits),
                "in evaluation mode the same input gives different outputs",
            )

    for_all(repeats_itself, inputs=fitting.inputs, seed=st.integers(1, 100), share=0.05)


@check("model", unless="couples_samples")
def samples_do_not_mix_in_evaluation(subject: Subject) -> None:
    """In evaluation mode a sample's output does not depend on its neighbours in the batch."""
    fitting = _fitting(subject)
    model = fitting.model(subject).eval()

    def stands_alone(inputs: Any) -> None:
        with torch.no_grad():
            together = _run(model, inputs).logits
            for place in range(len(together)):
                row = slice(place, place + 1)
                alone = _run(
                    model, {k: v[row] for k, v in inputs.items()} if isinstance(inputs, dict) else inputs[row]
                ).logits
                expect(
                    torch.allclose(together[row], alone, rtol=1e-3, atol=1e-5),
                    f"in evaluation mode the output of sample {place} depends on the other samples of its batch. "
                    "If that is meant, give it the trait 'couples_samples'.",
                )

    for_all(stands_alone, inputs=fitting.inputs, share=0.05)


@check("model")
def state_round_trips(subject: Subject) -> None:
    """The state of one, loaded into another with other initial weights, gives the same outputs."""
    fitting = _fitting(subject)
    first, second = fitting.model(subject, seed=0), fitting.model(subject, seed=1)

    def agrees(inputs: Any) -> None:
        first.train()
        with torch.no_grad():
            _run(first, inputs)  # moves running statistics
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        with torch.no_grad():
            same = torch.equal(_run(first.eval(), inputs).logits, _run(second.eval(), inputs).logits)
        expect(
            same,
            "a model with the same state_dict gives other outputs: something that changes is neither parameter nor "
            "buffer",
        )

    for_all(agrees, inputs=fitting.inputs, share=0.05)
