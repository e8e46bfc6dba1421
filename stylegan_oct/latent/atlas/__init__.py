"""Synthetic pictures laid out on maps: fitted, kept, shown as a picture and as a page."""
