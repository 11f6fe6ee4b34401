"""How fast: ours next to stock WhisperX, and next to what the bare models cost."""
