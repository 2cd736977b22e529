"""The command line: it reads arguments, calls one recipe and shows errors. It loads torch only through a recipe."""
