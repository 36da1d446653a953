"""What Home Assistant speaks: the Wyoming protocol, on a port of its own."""
