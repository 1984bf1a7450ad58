"""All tables and figures of a report as one document, in the order of the paper, with what is published beside each."""

from reports.as_paper.chapters import first_of_each_set
from reports.as_paper.paper import Paper, write_paper

__all__ = ["Paper", "first_of_each_set", "write_paper"]
