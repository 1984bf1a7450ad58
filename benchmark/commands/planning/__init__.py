"""`icm-bench plan`: counts, hours, memory, disk and price of a recipe before it runs."""
