"""A training step beside those of other libraries: see README.md in this folder."""
