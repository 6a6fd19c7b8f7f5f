"""The page on reliability; `scripts/reliability` writes it."""
