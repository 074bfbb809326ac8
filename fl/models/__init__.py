"""Models by name, and a model as a vector and as a file."""
