"""What is looked at, by whom, and once: pictures of an archive or a generator, and what observers see in them."""
