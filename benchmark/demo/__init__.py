"""The demo: real images and a real small dual encoder, from packages. Nothing else needs them."""
