"""Mathematics: pure functions of tensors, with the papers' symbols. Independent of models, files and settings."""
