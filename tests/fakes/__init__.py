"""Servers and workers that stand in for what cannot run here; fixtures over them."""
