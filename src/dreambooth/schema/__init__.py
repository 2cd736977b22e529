"""All verbs' settings together: the records, their leaves, how they are layered, the presets."""
