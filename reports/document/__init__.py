"""A report as one document as long as a paper, in the order of the paper, with what is published beside each table."""

from reports.document.paper import Paper, answer_paragraphs, write_paper
from reports.document.scope import Scope

__all__ = ["Paper", "Scope", "answer_paragraphs", "write_paper"]
