"""Old names of attributes: they work and warn."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from dovetail.distributed.group import Group
from dovetail.kernel.renamed import renamed
from dovetail.train.gradients import Gradients


class Engine:
    """Has a method that had another name before."""

    def start(self) -> str:
        """Start."""
        return "started"

    __getattr__ = renamed({"begin": "start"})


def test_an_old_name_works_and_warns():
    """The warning names both; it points to the line that uses the old name."""
    with pytest.warns(DeprecationWarning, match=r"Engine\.begin is now called start") as caught:
        assert Engine().begin() == "started"

    assert caught[0].filename == __file__


def test_other_names_are_missing():
    """As without old names, so that objects can be copied, pickled and asked."""
    with pytest.raises(AttributeError, match="'Engine' object has no attribute 'stop'"):
        Engine().stop()
    assert not hasattr(Engine(), "stop")
    assert copy.copy(Group(1, 2)) == pickle.loads(pickle.dumps(Group(1, 2))) == Group(1, 2)  # noqa: S301 (our own)


@pytest.mark.parametrize(
    "old,new", [("share", "broadcast"), ("gather", "all_gather"), ("add_up", "all_reduce"), ("apart", "new_group")]
)
def test_old_names_of_collectives(old, new):
    """A plugin that uses them keeps working."""
    group = Group()
    with pytest.warns(DeprecationWarning, match=f"Group.{old} is now called {new}"):
        assert getattr(group, old) == getattr(group, new)


def test_old_names_of_gradients():
    """Observers are shared, and an optimizer that evaluates again is known, under either name."""
    weight = torch.nn.Parameter(torch.ones(2))
    first, second = (Gradients(torch.optim.SGD([weight], lr=0.1)) for _ in range(2))
    first.observe(print)

    with pytest.warns(DeprecationWarning, match=r"Gradients\.hand_on is now called share_observers"):
        first.hand_on(second)
    with pytest.warns(DeprecationWarning, match=r"Gradients\.asks_again is now called needs_closure_reevaluation"):
        assert not second.asks_again
    assert second.clipping.observers == [print]
