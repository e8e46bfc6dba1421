"""What tells of the pictures: rows, card, marks, latents, hashes."""
