"""A report as one document as long as a paper, in the order of the paper, with what is published beside each table."""
