"""PyTorch helpers that know nothing about GANs or OCT: ops, checkpoints, statistics, seeding, several processes."""
