"""Redis: stored outcomes and cached model output."""
