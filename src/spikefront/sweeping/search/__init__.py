"""What may be tried and how it is judged: space, constraints, objectives, samplers, pruners. Knows no storage."""
