"""The soak: everything at once, for as long as wanted. `scripts/soak` runs it."""
