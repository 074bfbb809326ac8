"""What `tests.vectors.make` writes, made from the package with injected randomness."""
