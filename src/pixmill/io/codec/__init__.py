"""The codec: image bytes in, a smaller picture out. Runs inside pixel children only."""
