"""Adaptive discriminator augmentation: the transformations, the pipeline and the controller of its strength."""
