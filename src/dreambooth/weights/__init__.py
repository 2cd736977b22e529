"""Model files: readers, two-way key tables, writers."""
