"""Where the models are, how they are loaded, and what they run on."""
