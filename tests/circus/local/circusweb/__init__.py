"""In the place of circus-web, which needs a Python 2."""
