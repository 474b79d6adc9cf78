"""What the blobs keep to themselves, beside their contract."""
