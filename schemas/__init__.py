"""The wire of Heimdall: what producers, clients and operators see, as pydantic models.

Imports nothing of the project and nothing heavy, so that any consumer can depend on it.
"""
