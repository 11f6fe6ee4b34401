"""A worker that is given what no recorder writes."""
