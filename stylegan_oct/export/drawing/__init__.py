"""What is drawn and what of it is kept."""
