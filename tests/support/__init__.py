"""Fixtures and doubles that several test folders share."""
