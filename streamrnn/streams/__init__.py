"""What is remembered of each stream, and what is counted."""
