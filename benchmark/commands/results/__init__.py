"""Commands on published results: `publish`, `results check`, `results board` and `reproduce`."""
