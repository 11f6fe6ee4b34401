"""The stages of a job: each takes and returns frozen values, and imports no other stage."""
