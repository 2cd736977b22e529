"""Mathematics: pure functions of tensors, with the symbols of the papers. Knows no model, file or setting."""
