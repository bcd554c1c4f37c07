"""Geodesy: pure functions from covariances to error ellipses, positions and GeoJSON."""
