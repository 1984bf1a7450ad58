"""Which of several backbones: what is known of each, who is tied with the best, a sentence, a table and a figure."""
