"""Preparation of commands: manifests of data sets, checks, texts, and the records of runs."""
