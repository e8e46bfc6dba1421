"""Whether pictures show what was asked for."""
