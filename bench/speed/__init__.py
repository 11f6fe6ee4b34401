"""How fast: ours next to stock WhisperX."""
