"""The seeds of the global random generators."""

from __future__ import annotations

import numpy as np
import pytest

from dovetail.train.seeds import set_random_seed


@pytest.mark.parametrize("seed", ["42", 1.5, None])
def test_a_seed_is_an_integer(seed):
    """Anything else raises; NumPy's integers are integers."""
    with pytest.raises(TypeError, match="seed must be an integer, got"):
        set_random_seed(seed)
    set_random_seed(np.int64(3))
