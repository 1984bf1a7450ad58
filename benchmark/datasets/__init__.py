"""Data sets: a catalog of known sets, readers for each layout, identities of images, and manifests of whole sets."""
