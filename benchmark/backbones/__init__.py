"""Backbones (dual encoders): their specs, their facts, loading and inference, and exported projections for them."""
