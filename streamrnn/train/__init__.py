"""A model from recordings: what it learns from, how, and the simple methods it is measured beside."""
