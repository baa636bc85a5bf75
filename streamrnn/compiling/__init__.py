"""How streamrnn compiles: entry points, their parts, and the cache of what was compiled."""
