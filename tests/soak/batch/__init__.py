"""A whole bucket at once, on the development stack: what the batch command is held to."""
