"""Recipes: one reproduction each, as values found by `harness.discover`."""
