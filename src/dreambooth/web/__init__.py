"""The browser interface: every screen is a rendering of files, and every action is a command in a process of its own."""
