"""The consent decision and its documents: pure, no I/O, no clock, no asyncio. See FORMATS.md."""
