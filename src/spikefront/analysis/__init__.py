"""What is computed from studies' plain records: fronts, hypervolumes, importance."""
