"""The data that a run is given."""

from __future__ import annotations

from dovetail.data.samples import TensorSamples
from dovetail.main import run
from small_runs import Keep, small, three_blobs


def test_samples_held_in_memory_are_not_copied_by_a_run(tmp_path):
    """The dataset passed from Python is the one that is trained on."""
    data, keep = three_blobs(), Keep()
    run(small(tmp_path, data=data, callbacks={"keep": keep})).check()

    assert isinstance(data.train, TensorSamples)
    assert keep.run.parts.loaders.train.dataset is data.train
