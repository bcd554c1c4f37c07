"""Measurements on a local stack: a broker, a Redis, a registry and workers of their own."""
