"""The line protocol's front end: port 20202 and the Unix socket."""
