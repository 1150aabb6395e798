"""Sweeping: search space, study, workers, Pareto arithmetic. The study is the only state that workers share."""
