"""What the protocols cost: time, bytes and memory."""
