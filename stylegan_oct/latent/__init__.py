"""Exploring the latent space of a trained generator."""
