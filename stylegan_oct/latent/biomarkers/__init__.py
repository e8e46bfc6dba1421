"""What a clinician measures in a scan, from the picture alone."""
