"""Distances and neighbourhoods of two sets of pictures, by our names and by the official ones."""
