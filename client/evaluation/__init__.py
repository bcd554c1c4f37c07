"""How well a served model locates: labelled recordings through the queue, and figures with their intervals."""
