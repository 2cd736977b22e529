"""Measures what DreamBooth does to the bundled model, with the scores that the program itself reports and selects by."""
