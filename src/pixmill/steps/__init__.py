"""Floor 2: what the service does, one module a step, in the order in which it happens."""
