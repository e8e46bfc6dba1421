"""What `stylegan_oct` offers to programs and notebooks: each a few lines over what the commands call."""
