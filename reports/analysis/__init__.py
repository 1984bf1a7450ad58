"""Analysis of result rows as numbers: selections, comparisons, verdicts, and the attribution of gains."""
