"""How true the accuracies are that networks inherit, judged by those that were fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 4  # networks, to speak of an order


def agreement(pairs: Sequence[tuple[float, float]]) -> str | None:
    """A line on accuracies before and after fine-tuning; None of so few that it would say nothing.

    Kendall's tau is 1 if fine-tuning leaves the networks' order as it is, and 0 if nothing of it. These networks were
    chosen as the best of many, and lie close together: of all networks the order holds better.
    """
    if len(pairs) < FEWEST:
        return None
    from scipy.stats import kendalltau  # takes half a second, which a sweep has only at its end

    before, after = np.array(pairs).T
    mended = float((after - before).mean())
    said = f"fine-tuning gave {len(pairs)} networks {mended:+.3f} accuracy on average"
    tau = float(kendalltau(before, after).statistic)
    return said if np.isnan(tau) else f"{said}; their order by what they inherited holds to Kendall's tau {tau:.2f}"
