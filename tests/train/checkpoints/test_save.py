"""Saving a run's state."""

from __future__ import annotations

import pytest

from dovetail.main import run
from dovetail.train.errors import PartError
from small_runs import small


def test_a_part_that_cannot_give_its_state_is_named(tmp_path):
    """As one that fails in a hook is."""

    class Mute:
        def dovetail_epoch_end(self) -> None:
            """Do nothing."""

        def state_dict(self):
            raise KeyError("nothing")

        def load_state_dict(self, state) -> None:
            """Take nothing."""

    with pytest.raises(PartError, match=r"callbacks\.mute failed in state_dict: KeyError: 'nothing'"):
        run(small(tmp_path, callbacks={"mute": Mute()})).check()
