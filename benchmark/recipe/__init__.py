"""The recipe: a frozen, validated description of a benchmark run, with a hash."""
