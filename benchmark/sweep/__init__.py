"""The sweep: trials and their ids, moments, evaluation, and running on Ray Tune."""
