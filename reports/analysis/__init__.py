"""What rows say, in numbers: selections, comparisons, verdicts, and what explains a gain. No sentence."""
