"""The HTTPS door of the device."""
