"""How often a front end sends output: what many write in a short time goes together."""

from typing import Final

#: Seconds that a front end rests after a sending with little in it, and the bytes that are not little. A line after
#: silence goes at once, and many cost less together; what is more would fill up the log meanwhile.
COALESCE_DELAY: Final = 0.002
COALESCE_BYTES: Final = 32 * 1024
