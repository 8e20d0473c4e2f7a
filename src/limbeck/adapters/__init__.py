"""Other libraries' ways to start work, for runs of ours. Each is imported by who uses it alone."""
