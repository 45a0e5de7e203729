"""Settings that every test shares."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# One thread for torch, here and in subprocesses: xdist fills the cores already. Torch reads it when it is imported,
# which not every test does.
os.environ["OMP_NUM_THREADS"] = "1"

# Examples are drawn from a fixed seed and without a deadline: the machines that run these tests are shared, and a
# test that fails must fail again.
settings.register_profile("dovetail", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("dovetail"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dovetail"))
