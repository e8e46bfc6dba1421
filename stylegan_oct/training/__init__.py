"""Losses, update steps, and the loop that can be killed at any moment and goes on exactly."""
