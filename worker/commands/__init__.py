"""Commands of `heimdall` for whoever makes and registers models; loaded where the extra `worker` is installed."""
