"""A report as one document as long as a paper, in the order of the paper, with what is published beside each table."""

from reports.as_paper.paper import Paper, write_paper
from reports.as_paper.scope import Scope

__all__ = ["Paper", "Scope", "write_paper"]
