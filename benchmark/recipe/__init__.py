"""The recipe: one frozen, validated, hashable description of a benchmark run."""
