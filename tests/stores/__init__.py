"""What the stores keep to themselves, beside their contract."""
