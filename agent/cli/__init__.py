"""The doorward command, one file per command group."""
