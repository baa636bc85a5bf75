"""The journal of events: what happened to streams, kept in an SQLite file."""
