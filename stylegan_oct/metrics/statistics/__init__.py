"""A measured number with its interval, and how intervals are found."""
