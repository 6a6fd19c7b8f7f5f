"""What the mount looks like: pure functions from the server's lists to names and nodes. No I/O, clock or logging."""
