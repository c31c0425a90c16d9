"""The agency's own program."""
