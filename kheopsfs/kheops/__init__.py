"""The server: how to reach it, what it lists, what it delivers. Knows URLs, and nothing of FUSE or of our disk."""
