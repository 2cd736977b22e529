"""Similarity of images to photos and prompts: encoders, metrics, intervals, and the balance of the scores."""
