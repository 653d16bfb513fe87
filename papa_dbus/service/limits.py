"""papad's bounds, each with its number; those of options are in papa_dbus.schema.

Whoever reaches one is told which: org.papa.Error.Limit or InvalidArgs.
"""

from typing import Final

#: Bytes of output kept for a process that nobody has asked otherwise for (Circus's documentation promises 2M).
DEFAULT_BUFSIZE: Final = 2 * 1024 * 1024
#: Records kept for a process, however short they are: it bounds the index, at 16 bytes a record.
MAX_RECORDS: Final = 131_072

#: Of a process's output on its way to the journal: bytes of one entry, as journald's own LineMax=, and entries in so
#: many seconds, as its RateLimitBurst= and RateLimitIntervalSec= (journald.conf(5)); papa.service itself has no limit.
JOURNAL_LINE: Final = 48 * 1024
JOURNAL_BURST: Final = 10_000
JOURNAL_INTERVAL: Final = 30.0
#: Seconds between two entries that say what was left out, while more is.
JOURNAL_LOSS_INTERVAL: Final = 1.0
#: Processes that have gone before the journal took their last words.
MAX_JOURNAL_GONE: Final = 1024

DEFAULT_WINDOW: Final = 1024 * 1024
#: Bytes of output on the bus that a client, a user and all together have not shown to have read, and of papad's own for
#: what they have not acknowledged. dbus-daemon takes 127 MiB of papad (max_incoming_bytes), and then reads it no more;
#: dbus-broker 512 MiB for a user, and a part of that from one sender.
MAX_FLIGHT_OF_CLIENT: Final = 8 * 1024 * 1024
MAX_FLIGHT_OF_USER: Final = 24 * 1024 * 1024
MAX_FLIGHT: Final = 48 * 1024 * 1024
#: What a client that has read all gets whatever others have, and a watch although its client's others have all the
#: room; and how much beyond the above all clients of a user, and all together, may have so.
FLIGHT_SHARE: Final = 64 * 1024
MAX_SHARES_OF_USER: Final = 24 * 1024 * 1024
MAX_SHARES: Final = 48 * 1024 * 1024
#: Bytes of output and answers that lie at the bus for a client, for all of a user and for all, where the bus tells it
#: (broker_queues.py).
MAX_QUEUED_OF_CLIENT: Final = 16 * 1024 * 1024
MAX_QUEUED_OF_USER: Final = 32 * 1024 * 1024
MAX_QUEUED: Final = 64 * 1024 * 1024
#: The same of a user and of all, with what is sent beyond it to those that have read all.
MAX_QUEUED_WITH_READERS_OF_USER: Final = 64 * 1024 * 1024
MAX_QUEUED_WITH_READERS: Final = 96 * 1024 * 1024
#: Seconds for which what a client has not acknowledged is kept from others' acknowledgements while papad or the bus
#: is away, and the client with it.
ABSENCE: Final = 15.0

#: Papa 1.0.6 and its client's users count on this one.
DEFAULT_BACKLOG: Final = 5

#: Characters of a request's token.
MAX_TOKEN: Final = 64
#: Tokens of one item beside that of its maker; of all sockets, and as many of all processes.
MAX_TOKENS_OF_ITEM: Final = 8
MAX_TOKENS: Final = 32_768
#: Seconds for which a token is answered after its item has gone.
TOKEN_SECONDS: Final = 60

MAX_SOCKETS: Final = 4096
MAX_VALUES: Final = 65_536
MAX_PROCESSES: Final = 16_384
#: Earlier processes of one name whose output is kept because a reader went away in the middle of it.
MAX_UNREAD_PREDECESSORS: Final = 4
#: Watches that one client may have at a time, a user, and all clients together.
MAX_WATCHES_PER_CLIENT: Final = 1024
MAX_WATCHES_OF_USER: Final = 8192
MAX_WATCHES: Final = 16_384
#: Sockets of OpenOutput, each a descriptor and what Linux keeps in it: of a client, a user and in all.
MAX_OUTPUT_SOCKETS_OF_CLIENT: Final = 256
MAX_OUTPUT_SOCKETS_OF_USER: Final = 1024
MAX_OUTPUT_SOCKETS: Final = 4096
#: Processes that watches read, one for each watch and process, and the patterns of each that follows, beyond its first:
#: of one client, of a user and in all.
MAX_CURSORS_OF_CLIENT: Final = 32_768
MAX_CURSORS_OF_USER: Final = 65_536
MAX_CURSORS: Final = 131_072
#: Names or patterns in one request: each prefix is held against every item.
MAX_PATTERNS: Final = 1024
#: Bytes of one value, and of all values together.
MAX_VALUE_BYTES: Final = 1024 * 1024
MAX_VALUES_BYTES: Final = 64 * 1024 * 1024
#: Bytes of one process's arguments and environment together: what Linux itself takes with an 8 MiB stack (execve(2)).
MAX_COMMAND_BYTES: Final = 2 * 1024 * 1024
#: Bytes of a process's arguments in a listing of several; all of them are told if one process is asked for by name.
MAX_LISTED_ARGS: Final = 4096

#: Bytes of calls on the bus that wait for their turn, 1,024 more for each call: of a sender, of a user who is root,
#: papad's own or the group's, and of all those.
MAX_WAITING_OF_SENDER: Final = 16 * 1024 * 1024
MAX_WAITING_OF_USER: Final = 32 * 1024 * 1024
MAX_WAITING: Final = 64 * 1024 * 1024
#: The same of any other user, whose calls wait for polkit; of all those; and of all senders that are not known yet.
MAX_WAITING_OF_STRANGER: Final = 1024 * 1024
MAX_WAITING_OF_STRANGERS: Final = 16 * 1024 * 1024
MAX_WAITING_OF_UNKNOWN: Final = 32 * 1024 * 1024
#: Questions to polkit at a time, one for each user: those that may wait for a person, and as many that may not.
MAX_QUESTIONS: Final = 32
#: Senders on the bus whose user is remembered; the least used is asked for again.
MAX_KNOWN_SENDERS: Final = 4096
#: Bytes of calls on the bus that are under way, processes that start and host names that are looked up, 65,536 more for
#: each call: of a sender, of a user and in all. Calls that are answered at once do not count.
MAX_PENDING_OF_SENDER: Final = 64 * 1024 * 1024
MAX_PENDING_OF_USER: Final = 128 * 1024 * 1024
MAX_PENDING: Final = 256 * 1024 * 1024
#: Processes that one MakeProcesses asks for, and those of them that are started at a time: the bus takes 128 calls of
#: papad's to systemd, and others' processes have their turn in between.
MAX_REQUESTS_OF_CALL: Final = 512
MAX_STARTS_OF_CALL: Final = 32

#: Seconds until a process that is being started must have executed its program (its directory may hang on a server).
START_TIMEOUT: Final = 30.0
#: Seconds at papad's stop for the journal, and for those who consume processes that have ended, to take the rest.
LAST_WORDS_TIMEOUT: Final = 5.0
#: Seconds for the user database to say who a process is to run as.
LOOKUP_TIMEOUT: Final = 10.0
#: Seconds for the folder of a Unix socket to have its file made or removed: it may be on a server that does not answer.
PATH_TIMEOUT: Final = 5.0
#: Seconds for a host name to be resolved.
RESOLVE_TIMEOUT: Final = 10.0
