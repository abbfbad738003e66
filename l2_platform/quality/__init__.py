"""Judging what was recorded: gaps and what became of them, checks, completeness, equality of the stores."""
