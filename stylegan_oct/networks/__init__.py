"""The generator and discriminator of StyleGAN2-ADA."""
