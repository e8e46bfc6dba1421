"""What was measured, in words, lines, plots and a page."""
