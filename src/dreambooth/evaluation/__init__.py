"""Measuring what was learned: the subject, the prompt, and what was kept of the class."""
