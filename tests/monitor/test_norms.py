"""Statistics of norms: the order of reading does not matter."""

from __future__ import annotations

import json
import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.monitor.norms import NormStatistics
from dovetail.monitor.readings import DeviceStatistics, Parameters, Transfer
from dovetail.ops import grad_norms


@given(
    updates=st.lists(st.integers(1, 3), min_size=1, max_size=90),
    ends=st.sets(st.integers(1, 90)),
    asked=st.sets(st.integers(1, 90)),
    broken=st.integers(0, 90),
)
def test_grouping_of_updates_changes_no_bit(updates, ends, asked, broken):
    """Nor does reading statistics in between, with parameters that come and go and a NaN gradient."""
    torch.manual_seed(0)
    entries = []
    for number, count in enumerate(updates):
        grads = [torch.randn(3) for _ in range(count)]
        grads[0][0] = math.nan if number == broken else 1.0
        parameters = Parameters(tuple(map(str, range(count))), np.full(count, 3, np.int64))
        entries.append(DeviceStatistics(grad_norms(grads), parameters, number))
    kept = []
    for places in ({*range(91)}, ends):
        norms, pending = NormStatistics(50), []
        for number, entry in enumerate(entries, 1):
            pending.append(entry)
            if number in places or number == len(entries):
                for statistics in Transfer(pending).wait():
                    norms.add(statistics)
                pending = []
            if number in asked and places is ends:
                norms.statistics()
        kept.append((norms.statistics(), norms.take()))
    assert json.dumps(kept[0]) == json.dumps(kept[1])
