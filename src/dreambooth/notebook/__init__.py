"""Functions for notebooks: upload photos, train with live losses, choose a model, download files."""
