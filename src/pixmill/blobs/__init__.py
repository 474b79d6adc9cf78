"""Floor 2: where images and sheets are kept."""
