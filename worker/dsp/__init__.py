"""Signal processing: pure functions from recorded bytes to the features of a model."""
