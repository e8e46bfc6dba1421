"""Whether a generator repeats its training scans."""
