"""What bounds that which a sum, an update or a step of training tells: noise, and what it costs."""
