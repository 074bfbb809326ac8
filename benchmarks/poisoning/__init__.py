"""Malicious clients: what they do to a training, what stops them, and what that has to see and costs."""
