"""What only maintainers run; in no wheel."""
