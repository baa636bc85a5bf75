"""Past one machine: gateways append frames to a log that others keep, workers step it, shard by shard."""
