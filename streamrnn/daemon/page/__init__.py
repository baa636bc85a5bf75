"""What the page and its API read of a running daemon."""
