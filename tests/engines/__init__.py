"""The engines: how workers are started, watched and stopped."""
