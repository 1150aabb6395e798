"""How true the accuracies are that networks inherit, judged by those that were fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST = 4  # networks, to speak of an order


def agreement(pairs: Sequence[tuple[float, float]]) -> str | None:
    """A line on accuracies before and after fine-tuning; None if there are none.

    Kendall's tau is 1 if fine-tuning leaves the networks' order as it is, and 0 if nothing of it. These networks were
    chosen as the best of many, and lie close together: of all networks the order holds better.
    """
    if not pairs:
        return None
    before, after = np.array(pairs).T
    gain = f"{float((after - before).mean()):+.3f} accuracy"
    said = f"fine-tuning gave {len(pairs)} networks {gain} on average" if len(pairs) > 1 else f"fine-tuning gave {gain}"
    if len(pairs) < FEWEST:
        return said
    from scipy.stats import kendalltau  # takes half a second, which a sweep has only at its end

    tau = float(kendalltau(before, after).statistic)
    return said if np.isnan(tau) else f"{said}; their order by what they inherited holds to Kendall's tau {tau:.2f}"
