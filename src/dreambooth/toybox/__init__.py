"""The bundled base model, and the small rendered world that it was trained on."""
