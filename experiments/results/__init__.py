"""What DreamBooth does to the embedded model, by the scores that the program itself measures and chooses by."""
