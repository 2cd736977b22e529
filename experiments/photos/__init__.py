"""Measures what masks, captions and buckets change for photos of one place."""
