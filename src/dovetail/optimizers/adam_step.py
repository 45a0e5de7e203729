"""The step of torch's Adam and AdamW on the CPU, the same to the last bit, in fewer calls.

In a small update most of the time of torch's own step goes into calls and not into numbers: without ``fused`` it makes
ten calls of torch for every parameter. Here each is made once for many parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import is_
from typing import Any, Final, Self

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

# So many elements are worked on together: what is computed in between stays in the processor's cache, and is little
# memory beside the parameters. A larger parameter is worked on alone.
_TOGETHER: Final = 1 << 17

_DTYPES: Final = frozenset({torch.float32, torch.float64})
_NUMBERS: Final = (float, int)

#: The optimizer's memory of one parameter.
_Memory = dict[str, Any]
#: Parameters that have a gradient, the gradients, both running averages, and the number of steps of each.
_Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class AdamStep:
    """Does what ``step()`` of an Adam or AdamW does. What that keeps stays where torch keeps it."""

    def __init__(self, optimizer: Adam) -> None:
        """Look at the optimizer's parameters once."""
        self._optimizer = optimizer
        self._parameters = [list(group["params"]) for group in optimizer.param_groups]
        self._unrecorded = torch.no_grad()
        # What the optimizer remembered of all parameters when it was last looked up, and of those of each run. Looking
        # up a tensor calls Python; comparing all that is remembered with what was there before does not.
        self._known: list[_Memory] | None = None
        self._runs: list[list[_Run]] = []

    @classmethod
    def of(cls, optimizer: Optimizer) -> Self | None:
        """Return the step of ``optimizer``, None where torch's own is to be taken.

        Subclasses, parameters elsewhere than on the CPU and tensors of a kind of their own are left to torch; so is
        half precision, in which multiplying several tensors with a number rounds that number first.
        """
        if type(optimizer) not in {Adam, AdamW}:
            return None
        parameters = [one for group in optimizer.param_groups for one in group["params"]]
        plain = all(
            type(one) in {Tensor, torch.nn.Parameter} and one.is_cpu and one.dtype in _DTYPES for one in parameters
        )
        return cls(optimizer) if plain else None  # type: ignore[arg-type]  # its type was looked at

    def __call__(self) -> bool:
        """Make a step; say False, having done nothing, where that is torch's to do, such as the first one."""
        groups = self._optimizer.param_groups
        if len(groups) != len(self._parameters) or not all(map(_is_plain, groups, self._parameters)):
            return False
        self._look_up()
        ready = []
        for group, runs in zip(groups, self._runs, strict=True):
            for whole in runs:
                grads = [grad for one in whole.parameters if (grad := one.grad) is not None]
                run = whole if len(grads) == len(whole.parameters) else whole.with_gradients()
                if not all(run.memories):
                    return False
                if grads:
                    ready.append((group, run, grads))
        with self._unrecorded:
            for group, run, grads in ready:
                lists = run.parameters, grads, *run.averages(), run.steps()
                counts = run.count()
                if group["fused"]:
                    _fused(group, lists)
                else:
                    _unfused(group, lists, counts)
        return True

    def _look_up(self) -> None:
        """See what the optimizer remembers of each parameter, unless it is what was there before."""
        state = self._optimizer.state
        known = list(state.values())
        if self._known is not None and _the_same(known, self._known):
            return
        self._known = known
        self._runs = [
            [_Run(some, [state.get(one, {}) for one in some]) for some in _runs(parameters)]
            for parameters in self._parameters
        ]


class _Run:
    """Parameters that are worked on together, and what the optimizer remembers of each."""

    def __init__(self, parameters: list[Tensor], memories: list[_Memory]) -> None:
        self.parameters, self.memories = parameters, memories
        # The numbers of steps, and where they are: torch takes twenty times as long to add one to them.
        self._steps: list[Tensor] = []
        self._counts: list[Any] = []

    def with_gradients(self) -> _Run:
        """Return those of the parameters that have a gradient."""
        pairs = zip(self.parameters, self.memories, strict=True)
        some = [(one, memory) for one, memory in pairs if one.grad is not None]
        return _Run([one for one, _ in some], [memory for _, memory in some])

    def averages(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the running averages of the gradients, and of their squares."""
        return [one["exp_avg"] for one in self.memories], [one["exp_avg_sq"] for one in self.memories]

    def steps(self) -> list[Tensor]:
        """Return the number of steps of each parameter."""
        steps = [one["step"] for one in self.memories]
        if not _the_same(steps, self._steps):
            self._steps, self._counts = steps, [one.numpy().data for one in steps]
        return self._steps

    def count(self) -> list[float]:
        """Add one to the number of steps of each parameter, and return them as they are kept."""
        numbers = []
        for count in self._counts:
            count[()] += 1.0
            numbers.append(count[()])
        return numbers


def _runs(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Yield the parameters in their order, as many at a time as are to be worked on together."""
    some: list[Tensor] = []
    elements = 0
    for one in parameters:
        elements += one.numel()
        if some and elements > _TOGETHER:
            yield some
            some, elements = [], one.numel()
        some.append(one)
    yield some


def _is_plain(group: Mapping[str, Any], parameters: list[Tensor]) -> bool:
    """Say whether a group has the parameters that it had, and nothing set that is seldom set.

    A schedule, or whoever has the optimizer, may change any of it between two steps.
    """
    rare = group["amsgrad"] or group["maximize"] or group["foreach"] or group["capturable"] or group["differentiable"]
    if rare or not _the_same(group["params"], parameters):
        return False
    beta1, beta2 = group["betas"]
    return isinstance(group["lr"], _NUMBERS) and isinstance(beta1, _NUMBERS) and isinstance(beta2, _NUMBERS)


def _the_same(some: list[Any], others: list[Any]) -> bool:
    """Say whether two lists hold the very same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def _fused(group: Mapping[str, Any], lists: _Lists) -> None:
    """Update by the one kernel that torch's own step calls; the steps have been counted."""
    parameters, grads, means, squares, steps = lists
    kernel: Any = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    beta1, beta2 = group["betas"]
    kernel(
        parameters, grads, means, squares, [], steps,
        lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        amsgrad=False, maximize=False, grad_scale=None, found_inf=None,
    )  # fmt: skip


def _unfused(group: Mapping[str, Any], lists: _Lists, counts: list[float]) -> None:
    """Update by the operations of torch's own step in their order, each for all parameters before the next.

    Args:
        group: the options.
        lists: what it is about.
        counts: the number of steps of each parameter, this one included.
    """
    parameters, grads, means, squares, _ = lists
    rate, decay, (beta1, beta2) = group["lr"], group["weight_decay"], group["betas"]
    if decay and group["decoupled_weight_decay"]:
        torch._foreach_mul_(parameters, 1 - rate * decay)
    elif decay:
        grads = torch._foreach_add(grads, parameters, alpha=decay)  # type: ignore[assignment]  # noqa: SLF001 (no public name)
    torch._foreach_lerp_(means, grads, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
    denominators = torch._foreach_sqrt(squares)  # noqa: SLF001 (no public name)
    torch._foreach_div_(denominators, [(1 - beta2**count) ** 0.5 for count in counts])
    torch._foreach_add_(denominators, group["eps"])
    torch._foreach_addcdiv_(parameters, means, denominators, [-(rate / (1 - beta1**count)) for count in counts])
