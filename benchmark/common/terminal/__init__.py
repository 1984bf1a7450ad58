"""What a person sees while a command runs: verbosity, progress, escaped text, signals."""
