"""Which parameters move, and at which learning rate."""
