"""The aligner's training, in parts small enough to check against brute force."""
