"""What is asked of the operating system, in one way everywhere."""
