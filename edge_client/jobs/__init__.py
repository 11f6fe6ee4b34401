"""One session: its claim, its job, how the job ended and what follows."""
