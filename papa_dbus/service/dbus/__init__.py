"""The D-Bus front end: org.papa.Kernel."""
