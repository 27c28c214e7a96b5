"""Label maps to polygons whose borders neighbours share exactly: connected regions, their corners, their rings."""
