"""Files to modules and back: readers, two-way key tables, writers."""
