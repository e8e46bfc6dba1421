"""Whether classifiers learn from synthetic scans what helps them on real ones."""
