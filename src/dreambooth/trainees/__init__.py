"""Which parameters are trained, and at which learning rate."""
