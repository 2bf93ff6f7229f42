"""Series of 30 nightly runs on nearly the same rows: how often equal models are promoted, and what that costs in power.

PYTHONPATH=tests/continuous_training .venv/bin/python tests/benchmarks/repeated_looks.py  # 1,000 series: two minutes
"""

from __future__ import annotations

import argparse

from continuous_training.settings import Compare
from nightly_runs import Nights, first_promotions

CANDIDATES = {0.0: "another every night", 0.9: "alike", 1.0: "the same every night"}
STARTS = {0: "after a pause", 30: "of many nights"}


def main() -> None:
    """Simulate the kinds of series, and print a line for each."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = parser.parse_args()
    rules = {
        text: Compare(
            metric="neg_mean_squared_error",
            first={"neg_mean_squared_error": -9},
            resamples=arguments.resamples,
            error_rate_days=days,
        )
        for text, days in {"30 days": 30, "each run": None}.items()
    }
    print(f"{arguments.series:,} series of 30 nightly runs at 95 % confidence; a gain in standard errors of one run")
    print(
        f"{'error rate of':<14} {'gain':>4}  {'candidates':<21} {'series':<15} {'promoted':>8}  by night 1  by night 7"
    )
    for gain, likeness, earlier, (text, limits) in (
        (gain, likeness, earlier, rule)
        for gain in (0.0, 2.8, 4.2)
        for likeness in CANDIDATES
        for earlier in STARTS
        for rule in rules.items()
        if not (gain and likeness in {0.0, 1.0}) and not (earlier and rule[1].error_rate_days is None)
    ):
        nights = first_promotions(Nights(gain=gain, likeness=likeness, earlier=earlier), limits, arguments.series)
        shares = [f"{((nights > 0) & (nights <= last)).mean():.1%}" for last in (30, 1, 7)]
        print(
            f"{text:<14} {gain:>4}  {CANDIDATES[likeness]:<21} {STARTS[earlier]:<15} {shares[0]:>8}  {shares[1]:>10}  "
            f"{shares[2]:>10}",
            flush=True,
        )


if __name__ == "__main__":
    main()
