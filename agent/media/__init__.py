"""Views, masks, captions and the share pipeline."""
