"""Import and export of embeddings, predictions and splits."""
