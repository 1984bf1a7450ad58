"""The commands of `icm-bench`, one file for each, and the code that they share, such as preparation and checks."""
