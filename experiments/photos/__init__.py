"""Measures what masks and captions of photos change."""
