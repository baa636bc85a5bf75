"""What is remembered of each stream, and what a row of it may be."""
