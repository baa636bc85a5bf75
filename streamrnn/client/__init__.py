"""What talks to a daemon over its sockets: send, and tail."""
