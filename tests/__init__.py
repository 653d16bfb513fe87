"""The tests. A package, since the original papa installs one of the same name, which would be found instead."""
