"""What papad holds, one at a time: sockets, values and processes as data, and their store."""
