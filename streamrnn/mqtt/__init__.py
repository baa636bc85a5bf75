"""Messages from MQTT brokers: who may come in, the client, and a thread that reads what it brings."""
