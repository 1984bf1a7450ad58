"""`icm-bench selfcheck`: zero-shot accuracy of a published backbone against published figures."""
