"""`make fuzz`: inputs that nobody would send, given to every reader of what comes from outside."""
