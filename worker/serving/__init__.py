"""Serving: batches, sessions, the model contract, the registry and the roll-out."""
