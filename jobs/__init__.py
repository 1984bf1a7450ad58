"""Packaged recipes (`recipes/`), cluster configurations (`clusters/`), and the start of a cluster job (`run.py`)."""
