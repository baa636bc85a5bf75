"""Recordings: files of measurements in the formats of loggers, test benches, vehicles and laboratories."""
