"""Measurements behind every number of the documents: `python -m benchmarks FOLDER [NAME]`."""
