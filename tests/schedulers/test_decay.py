"""Tests of decay against torch and formulas."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ExponentialLR, PolynomialLR, ReduceLROnPlateau, StepLR

from dovetail.schedulers import exponential, plateau, polynomial, step
from rates import RATES, assert_close, optimizer, rates_over


@given(size=st.integers(1, 5), gamma=st.floats(0.05, 1.5), steps=st.integers(0, 20))
def test_step_matches_torch(size: int, gamma: float, steps: int) -> None:
    """Step decay agrees with torch's at every step."""
    ours, torchs = step(optimizer(), step_size=size, gamma=gamma), StepLR(optimizer(), size, gamma)

    assert_close(rates_over(ours, steps), rates_over(torchs, steps))


@given(gamma=st.floats(0.05, 1.5), steps=st.integers(0, 20))
def test_exponential_matches_torch(gamma: float, steps: int) -> None:
    """Exponential decay agrees with torch's at every step."""
    assert_close(
        rates_over(exponential(optimizer(), gamma=gamma), steps), rates_over(ExponentialLR(optimizer(), gamma), steps)
    )


@given(
    epochs=st.integers(1, 8), per_epoch=st.integers(1, 3), power=st.sampled_from([0.5, 1.0, 2.0]), whole=st.booleans()
)
def test_polynomial_matches_torch(*, epochs: int, per_epoch: int, power: float, whole: bool) -> None:
    """Without a floor, polynomial decay agrees with torch's, even beyond its end."""
    steps = epochs * per_epoch
    total, length = (steps, None) if whole else (steps + 5, epochs)
    ours = polynomial(optimizer(), total, per_epoch, total_epochs=length, power=power, min_lr=0.0)

    assert_close(rates_over(ours, steps + 3), rates_over(PolynomialLR(optimizer(), steps, power), steps + 3))


@given(total=st.integers(1, 20), floor=st.sampled_from([1e-7, 0.05]))
def test_polynomial_ends_at_its_floor(total: int, floor: float) -> None:
    """By default, the rate is floor + (base - floor) · (1 - t/T)^2."""
    found = rates_over(polynomial(optimizer(), total, 1, min_lr=floor), total + 1)

    factors = [max(1 - step / total, 0) ** 2 for step in range(total + 2)]
    assert_close(found, [[floor + (base - floor) * factor for base in RATES] for factor in factors])


def test_plateau_is_torchs_class_with_its_defaults() -> None:
    """The factory passes its options on."""
    found = plateau(optimizer(), mode="max", factor=0.5, patience=0, min_lr=0.15)

    assert isinstance(found, ReduceLROnPlateau)
    for value in (1.0, 0.5, 0.4):
        found.optimizer.step()
        found.step(value)
    assert [group["lr"] for group in found.optimizer.param_groups] == [0.1, 0.15]
    reference = ReduceLROnPlateau(optimizer()).state_dict()
    assert plateau(optimizer()).state_dict() == reference
