"""What commands need before they start: manifests, checks, texts, records."""
