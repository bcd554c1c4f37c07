"""The commands of `heimdall`, one module each."""
