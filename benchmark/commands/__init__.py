"""The commands, one file for each, and what they share: preparation, checks, the choice of one projection."""
