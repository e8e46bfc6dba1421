"""The pictures of a library nearest to a scan, and whether they are copies."""
