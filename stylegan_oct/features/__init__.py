"""The networks that look at images, and distances between images that they give."""
