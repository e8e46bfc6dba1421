"""Directions in w: found, named, measured, and moved along."""
