"""The kernel of dasd-harness: stages, the run store, generation, grading. Knows no paper."""
