"""Films of walks through w."""
