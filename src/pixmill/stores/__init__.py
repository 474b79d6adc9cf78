"""Floor 2: where requests, images and outcomes are kept."""
