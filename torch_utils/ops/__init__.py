"""Custom operators: one file an op, each with its PyTorch reference."""
