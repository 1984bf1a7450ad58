"""Data sets: catalog, readers, identities of images, and manifests."""
