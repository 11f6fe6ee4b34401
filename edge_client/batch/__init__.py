"""A whole bucket: list it, decide per session, submit and follow many jobs at once, report."""
