"""Projection: from a scan to the latents of the picture nearest to it."""
