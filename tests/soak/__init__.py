"""A soak: evaluation in a loop with random faults, and whether anything grows."""
