"""What a notebook calls: photos by upload, training with live losses, models to choose from, files to take home."""
