"""The running service: the compiled pump and the Python around it."""
