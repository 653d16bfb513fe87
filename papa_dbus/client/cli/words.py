"""Words that people bring along from supervisorctl, systemctl, circusctl, docker and pm2.

One that is the same as a command of papactl's is done; for any other, one line says what to type, and why.
"""

from typing import Final

#: What is the same thing under another name, by the words that it stands for.
SAME: Final[dict[str, tuple[str, ...]]] = {
    "ps": ("list", "processes"),
    "ls": ("list",),
    "list-units": ("list", "processes"),
    "list-sockets": ("list", "sockets"),
    "rm": ("remove",),
    "inspect": ("show",),
    "describe": ("show",),
    "info": ("show",),
    "log": ("logs",),
    "tail": ("logs", "--lines", "10"),
    "attach": ("logs", "--follow"),
    "stats": ("top",),
    "monit": ("top",),
    "is-active": ("status",),
}

_MANAGER = "that is a manager's: with Circus"
_NOT_STOPPED = "papad does not stop processes, their manager does (circusctl stop NAME)"
_NOT_RESTARTED = "papad does not restart processes, their manager does (circusctl restart NAME)"
_NO_FILE = "papad has no file of processes to read"
_SERVICE = "the daemon itself is systemd's"

#: What to type instead, by the word.
INSTEAD: Final[dict[str, str]] = {
    "start": f"'papactl run NAME -- COMMAND' starts a process; from a file, {_MANAGER}, 'circusctl start NAME'",
    "create": "'papactl run NAME -- COMMAND' starts a process",
    "exec": "'papactl run NAME -- COMMAND' starts a process; papad has nothing to enter",
    "stop": f"{_NOT_STOPPED}; by hand, 'papactl kill NAME'",
    "down": f"{_NOT_STOPPED}; by hand, 'papactl kill NAME'",
    "restart": f"{_NOT_RESTARTED}; by hand, 'papactl kill NAME' and 'papactl run NAME -- COMMAND'",
    "try-restart": f"{_NOT_RESTARTED}; by hand, 'papactl kill NAME' and 'papactl run NAME -- COMMAND'",
    "delete": f"{_NOT_STOPPED}; 'papactl kill NAME' ends one, 'papactl remove NAME' forgets it and its output",
    "del": "'papactl remove NAME' forgets a process and its output; 'papactl kill NAME' ends it",
    "signal": "'papactl kill NAME --signal HUP' sends a signal",
    "pause": "'papactl kill NAME --signal STOP' suspends a process",
    "unpause": "'papactl kill NAME --signal CONT' resumes a process",
    "reload": f"'papactl kill NAME --signal HUP' has most programs reload; {_SERVICE}: 'systemctl reload papa'",
    "reread": f"{_NO_FILE}; {_MANAGER}, 'circusctl reloadconfig'",
    "update": f"{_NO_FILE}; {_MANAGER}, 'circusctl reloadconfig'; a new version of papad: 'systemctl reload papa'",
    "reloadconfig": f"{_NO_FILE}; {_MANAGER}, 'circusctl reloadconfig'",
    "daemon-reload": f"{_NO_FILE}; for units, 'systemctl daemon-reload'",
    "avail": f"{_NO_FILE}; 'papactl list processes' shows what is there",
    "add": f"'papactl run NAME -- COMMAND' adds a process; {_MANAGER}, 'circusctl add NAME COMMAND'",
    "incr": f"{_MANAGER}, 'circusctl incr NAME'; by hand, 'papactl run NAME -- COMMAND' with another name",
    "decr": f"{_MANAGER}, 'circusctl decr NAME'; by hand, 'papactl kill NAME'",
    "scale": f"{_MANAGER}, 'circusctl set NAME numprocesses COUNT'",
    "numprocesses": "'papactl status' says how many processes there are",
    "enable": f"{_SERVICE}: 'systemctl enable papa.socket'; processes are started by their manager",
    "disable": f"{_SERVICE}: 'systemctl disable papa.socket'; processes are started by their manager",
    "startup": f"{_SERVICE}: 'systemctl enable papa.socket'",
    "save": "papad keeps what it holds by itself, over its own restart; after a reboot the manager starts it anew",
    "resurrect": "papad keeps what it holds by itself, over its own restart; after a reboot the manager starts it anew",
    "shutdown": f"{_SERVICE}: 'systemctl stop papa.socket papa.slice papa.service' ends it and all that it hosts",
    "pid": "'papactl status NAME' shows the PID; for scripts, 'papactl list processes NAME --json'",
    "pids": "'papactl list processes' shows the PIDs",
    "listpids": "'papactl list processes' shows the PIDs",
    "port": "'papactl list sockets' shows the ports",
    "listsockets": "'papactl list sockets' shows the sockets",
    "fg": "papad gives processes no input; 'papactl logs --follow NAME' shows the output",
    "flush": "'papactl consume NAME --to /dev/null' takes output until Ctrl-C or the process's end; logs are not files",
    "clear": "'papactl consume NAME --to /dev/null' takes output until Ctrl-C or the process's end; logs are not files",
    "maintail": "'journalctl --unit=papa' shows papad's own log",
    "events": "'busctl monitor org.papa.Kernel' shows what comes, goes and changes",
    "version": "'papactl --version' is papactl's, 'papactl status' shows papad's",
    "ping": "'papactl status' says whether papad runs, 'papactl doctor' what is wrong",
    "quit": "papactl ends by itself; 'papactl exit-if-idle' ends papad if it holds nothing",
    "exit": "papactl ends by itself; 'papactl exit-if-idle' ends papad if it holds nothing",
}
