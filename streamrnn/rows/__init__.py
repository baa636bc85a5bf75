"""Updates of single sensors -> rows at integer ticks."""
