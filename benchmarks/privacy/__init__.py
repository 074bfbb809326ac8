"""What noise costs in accuracy, rounds and time, and is worth in epsilon; what dummies hide, and cost."""
