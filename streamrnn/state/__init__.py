"""The state of streams outside of the pump: what `streamrnn state` does, in files or by asking a daemon."""
