"""A model, its streams and their rules behind ``feed``, and the one compiled way that every row takes."""
