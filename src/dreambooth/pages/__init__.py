"""Output for people: images, HTML pages, charts."""
