"""The settings of all verbs: records, leaves, layering and presets."""
