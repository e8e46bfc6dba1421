"""From scans to an archive for training, and from the archive to tensors."""
