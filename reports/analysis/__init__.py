"""Analysis of result rows as numbers: selections, comparisons, verdicts, and what explains a gain."""
