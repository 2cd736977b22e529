"""What people look at: images, HTML pages, charts."""
