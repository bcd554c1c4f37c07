"""Metrics, logs, health and the HTTP server that shows them."""
