"""The sealed ring of recordings. See FORMAT.md."""
