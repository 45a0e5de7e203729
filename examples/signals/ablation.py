"""Measure whether a physics loss helps, or any term of its form, or the seed: four arms, twelve seeds each.

    python examples/signals/ablation.py data.path=…/cwru_bearing
    python examples/signals/ablation.py --seeds 1 --profile ci_fast data.path=…/cwru_bearing

Print the test accuracy of each arm over the first three seeds and over all seeds, and the number of seeds with which it
is better than plain training.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from dovetail import Config
from dovetail.main import run

FILE = Path(__file__).with_name("cwru_physics.toml")
ARMS = {
    "plain": ["loss.lambda_freq=0"],
    "physics": [],
    "scrambled": ["loss.control=scrambled"],
    "random": ["loss.control=random"],
}


def main() -> None:
    """Run every arm with every seed and print a table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--file", type=Path, default=FILE, help="the run file with the physics loss")
    options.add_argument("--seeds", type=int, default=12, help="number of seeds")
    options.add_argument("--profile", help="profile of the run file")
    options.add_argument("--json", type=Path, help="write the accuracies to this file")
    options.add_argument("overrides", nargs="*", help="settings, such as data.path=FOLDER")
    given = options.parse_args()

    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in range(given.seeds):  # seed by seed, so that intermediate results are comparable
        for arm, changes in ARMS.items():
            seeds = [f"run.seed={seed}", f"loss.control_seed={seed}"]
            config = Config.load(given.file, given.profile, [*given.overrides, *changes, *seeds]).build()
            outcome = run(config)
            outcome.check()
            found[arm].append(outcome.test_metrics["test_accuracy"])
        if given.json:
            given.json.write_text(json.dumps(found))
    print(f"{'':10} {'first 3':>14} {'all':>14}  better than plain")
    for arm, values in found.items():
        better = sum(accuracy > other for accuracy, other in zip(values, found["plain"], strict=True))
        print(f"{arm:10} {_spread(values[:3]):>14} {_spread(values):>14}  {better} of {len(values)}")


def _spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f} %"


if __name__ == "__main__":
    main()
