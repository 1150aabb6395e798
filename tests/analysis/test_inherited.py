"""What fine-tuning says of the accuracies that networks inherit."""

from spikefront.analysis.inherited import agreement


def test_the_order_and_the_gain_are_said():
    kept = [(0.5, 0.7), (0.6, 0.8), (0.7, 0.85), (0.8, 0.9)]
    assert agreement(kept) == (
        "fine-tuning gave 4 networks +0.163 accuracy on average; their order by what they inherited holds to"
        " Kendall's tau 1.00"
    )
    turned = [(b, 1 - b) for b, _ in kept]
    assert "tau -1.00" in agreement(turned)
    assert agreement([(0.5, a) for a in (0.1, 0.2, 0.3, 0.4)]).endswith("on average")  # no order to hold
    assert agreement(kept[:3]) == "fine-tuning gave 3 networks +0.183 accuracy on average"
    assert agreement(kept[:1]) == "fine-tuning gave +0.200 accuracy" and agreement([]) is None
