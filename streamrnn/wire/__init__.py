"""Bytes to frames and predictions to bytes."""
