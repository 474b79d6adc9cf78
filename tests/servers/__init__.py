"""Real servers that tests start by themselves, each in a folder of its own, and stop again."""
