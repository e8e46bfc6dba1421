"""The folder of an export: its state, its pictures, its closing and its check."""
