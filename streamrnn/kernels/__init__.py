"""Compiled numerics: arrays in, arrays out. No sockets, files, clocks or strings."""
