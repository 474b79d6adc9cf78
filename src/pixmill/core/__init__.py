"""Floor 0, pure: the model, its rules and its words; no clock, no environment, no sockets."""
