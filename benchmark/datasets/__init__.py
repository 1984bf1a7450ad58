"""Data sets: facts about the known ones, how images are found, identified and split."""
