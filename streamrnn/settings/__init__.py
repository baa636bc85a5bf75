"""What users set: the configuration file, what its values can be, and keys."""
