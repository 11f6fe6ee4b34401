"""Runs on the edge box: signs, submits, follows, recovers. Needs no GPU library."""
