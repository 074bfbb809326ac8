"""What noise costs: in accuracy, in rounds and in time, and what it is worth: epsilon."""
