"""Published results: records in the layout of Every Eval Ever, their answers, and checks of both.

A results folder has one record (JSON) and one file of answers (JSONL) for each data set, encoder and method, below
`data/COLLECTION/DEVELOPER/MODEL/`, and `results.csv` with one line for each record.
"""
