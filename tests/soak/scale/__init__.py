"""What the client does with a bucket of a hundred thousand sessions."""
