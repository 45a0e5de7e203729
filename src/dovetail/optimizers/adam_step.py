"""The step of torch's Adam and AdamW on the CPU, bit for bit, in fewer calls.

In a small update, torch spends most of its time on calls: without ``fused``, it calls ten operations for every
parameter. Here, each operation is called once for many parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import is_
from typing import Any, Final, Self

import torch
from torch import Tensor
from torch.optim import Adam, AdamW, Optimizer

# Elements per chunk. Intermediate results stay in the processor's cache, and take little memory compared with the
# parameters. A larger parameter forms a chunk of its own.
_CHUNK_SIZE: Final = 1 << 17

_DTYPES: Final = frozenset({torch.float32, torch.float64})
_NUMBERS: Final = (float, int)

#: The optimizer's state of one parameter.
_State = dict[str, Any]
#: Parameters that have a gradient, their gradients, both running means, and their step counts.
_Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class AdamStep:
    """Replaces ``step()`` of an Adam or AdamW; the state stays in ``optimizer.state``."""

    def __init__(self, optimizer: Adam) -> None:
        """Cache the optimizer's parameters."""
        self._optimizer = optimizer
        self._parameters = [list(group["params"]) for group in optimizer.param_groups]
        self._no_grad = torch.no_grad()
        # The states of all parameters when they were last looked up, and the chunks of each group. Looking up a tensor
        # in optimizer.state runs Python code for its hash; comparing the states with the cached ones does not.
        self._states: list[_State] | None = None
        self._chunks: list[list[_Chunk]] = []

    @classmethod
    def of(cls, optimizer: Optimizer) -> Self | None:
        """Return a step for ``optimizer``, or None if only torch's own ``step()`` can update it.

        Subclasses of Adam and AdamW, parameters on other devices and tensor subclasses are left to torch. So is half
        precision, where a foreach multiplication by a number rounds that number first.
        """
        if type(optimizer) not in {Adam, AdamW}:
            return None
        plain = all(
            type(parameter) in {Tensor, torch.nn.Parameter} and parameter.is_cpu and parameter.dtype in _DTYPES
            for group in optimizer.param_groups
            for parameter in group["params"]
        )
        return cls(optimizer) if plain else None  # type: ignore[arg-type]  # checked above

    def __call__(self) -> bool:
        """Make a step; return False without changing anything if torch must make it, such as the first step."""
        groups = self._optimizer.param_groups
        if len(groups) != len(self._parameters) or not all(map(_is_plain, groups, self._parameters)):
            return False
        self._update_cache()
        ready = []
        for group, chunks in zip(groups, self._chunks, strict=True):
            for full_chunk in chunks:
                grads = [grad for parameter in full_chunk.parameters if (grad := parameter.grad) is not None]
                chunk = full_chunk if len(grads) == len(full_chunk.parameters) else full_chunk.with_gradients()
                if not all(chunk.states):
                    return False
                if grads:
                    ready.append((group, chunk, grads))
        with self._no_grad:
            for group, chunk, grads in ready:
                lists = chunk.parameters, grads, *chunk.means(), chunk.steps()
                counts = chunk.count_step()
                if group["fused"]:
                    _fused(group, lists)
                else:
                    _unfused(group, lists, counts)
        return True

    def _update_cache(self) -> None:
        """Look up the state of each parameter, unless the cached states are still the optimizer's."""
        state = self._optimizer.state
        states = list(state.values())
        if self._states is not None and _identical(states, self._states):
            return
        self._states = states
        self._chunks = [
            [_Chunk(chunk, [state.get(parameter, {}) for parameter in chunk]) for chunk in _chunks(parameters)]
            for parameters in self._parameters
        ]


class _Chunk:
    """Parameters that are updated together, and the optimizer's state of each."""

    def __init__(self, parameters: list[Tensor], states: list[_State]) -> None:
        self.parameters, self.states = parameters, states
        # The step tensors, and views of their memory: adding 1 through torch takes twenty times as long.
        self._steps: list[Tensor] = []
        self._counts: list[Any] = []

    def with_gradients(self) -> _Chunk:
        """Return a chunk of the parameters that have a gradient."""
        pairs = zip(self.parameters, self.states, strict=True)
        chosen = [(parameter, state) for parameter, state in pairs if parameter.grad is not None]
        return _Chunk([parameter for parameter, _ in chosen], [state for _, state in chosen])

    def means(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return the running means of the gradients, and of their squares."""
        return [state["exp_avg"] for state in self.states], [state["exp_avg_sq"] for state in self.states]

    def steps(self) -> list[Tensor]:
        """Return the step count of each parameter."""
        steps = [state["step"] for state in self.states]
        if not _identical(steps, self._steps):
            self._steps, self._counts = steps, [step.numpy().data for step in steps]
        return self._steps

    def count_step(self) -> list[float]:
        """Add 1 to the step count of each parameter, and return the new counts."""
        numbers = []
        for count in self._counts:
            count[()] += 1.0
            numbers.append(count[()])
        return numbers


def _chunks(parameters: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Yield the parameters in their order, in lists of at most :data:`_CHUNK_SIZE` elements, or of one parameter."""
    chunk: list[Tensor] = []
    elements = 0
    for parameter in parameters:
        elements += parameter.numel()
        if chunk and elements > _CHUNK_SIZE:
            yield chunk
            chunk, elements = [], parameter.numel()
        chunk.append(parameter)
    yield chunk


def _is_plain(group: Mapping[str, Any], parameters: list[Tensor]) -> bool:
    """Return whether a group still has these parameters, and no rarely used option is set.

    A scheduler or user code may change either between two steps.
    """
    rare = group["amsgrad"] or group["maximize"] or group["foreach"] or group["capturable"] or group["differentiable"]
    if rare or not _identical(group["params"], parameters):
        return False
    beta1, beta2 = group["betas"]
    return isinstance(group["lr"], _NUMBERS) and isinstance(beta1, _NUMBERS) and isinstance(beta2, _NUMBERS)


def _identical(first: list[Any], second: list[Any]) -> bool:
    """Return whether two lists hold the same objects, compared by identity."""
    return len(first) == len(second) and all(map(is_, first, second))


def _fused(group: Mapping[str, Any], lists: _Lists) -> None:
    """Update with the kernel that torch's own step calls; the step counts already include this step."""
    parameters, grads, means, squares, steps = lists
    kernel: Any = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    beta1, beta2 = group["betas"]
    kernel(
        parameters, grads, means, squares, [], steps,
        lr=group["lr"], beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        amsgrad=False, maximize=False, grad_scale=None, found_inf=None,
    )  # fmt: skip


def _unfused(group: Mapping[str, Any], lists: _Lists, counts: list[float]) -> None:
    """Update with the operations of torch's own step in the same order, each for all parameters before the next.

    Args:
        group: the options.
        lists: the parameters, and their gradients and state.
        counts: the step count of each parameter, including this step.
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
