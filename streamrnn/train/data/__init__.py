"""What is learned from: the rows of files, in sequences and lanes."""
