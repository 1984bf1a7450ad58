"""The demo's data sets and its small encoder, built from published packages. Other data sets do not need them."""
