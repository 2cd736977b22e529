"""Evaluation of a trained model: subject fidelity, prompt fidelity and class preservation."""
