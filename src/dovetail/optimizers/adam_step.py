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
        self._runs = [list(_runs(parameters)) for parameters in self._parameters]
        # What the optimizer remembered of all parameters when it was last looked up, and of those of each run. Looking
        # up a tensor calls Python; comparing all that is remembered with what was there before does not.
        self._known: list[_Memory] | None = None
        self._memories: list[list[list[_Memory]]] = []
        # By the id of each, its count of steps and where that is: torch takes twenty times as long to add one to it.
        self._counts: dict[int, tuple[Tensor, Any]] = {}

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
        for group, runs, memories in zip(groups, self._runs, self._memories, strict=True):
            for parameters, kept in zip(runs, memories, strict=True):
                grads = [grad for one in parameters if (grad := one.grad) is not None]
                present, remembered = parameters, kept
                if len(grads) < len(parameters):
                    present = [one for one in parameters if one.grad is not None]
                    remembered = [its for one, its in zip(parameters, kept, strict=True) if one.grad is not None]
                if not all(remembered):
                    return False
                if present:
                    means, squares = [one["exp_avg"] for one in remembered], [one["exp_avg_sq"] for one in remembered]
                    lists = present, grads, means, squares, [one["step"] for one in remembered]
                    ready.append((group, lists, [self._count(one) for one in remembered]))
        with self._unrecorded:
            for group, lists, counts in ready:
                numbers = [_one_more(count) for count in counts]
                if group["fused"]:
                    _fused(group, lists)
                else:
                    _unfused(group, lists, numbers)
        return True

    def _look_up(self) -> None:
        """See what the optimizer remembers of each parameter, unless it is what was there before."""
        state = self._optimizer.state
        known = list(state.values())
        if self._known is not None and _the_same(known, self._known):
            return
        self._known, self._counts = known, {}
        self._memories = [[[state.get(one, {}) for one in parameters] for parameters in runs] for runs in self._runs]

    def _count(self, memory: _Memory) -> Any:
        """Return where the count of steps of one of the known memories is."""
        step, known = memory["step"], self._counts.get(id(memory))
        if known is None or known[0] is not step:
            known = self._counts[id(memory)] = step, step.numpy().data
        return known[1]


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
    return all(isinstance(one, float | int) for one in (group["lr"], *group["betas"]))


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


def _one_more(count: Any) -> float:
    """Add one to a number of steps, and return it as it is kept.

    Args:
        count: a ``memoryview`` without dimensions.
    """
    count[()] += 1.0
    number: float = count[()]
    return number


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
