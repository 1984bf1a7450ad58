"""`icm-bench submit` and `doctor`: packing a recipe, following its job, checking nodes."""
