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
    "desc": ("show",),
    "l": ("list",),
    "jlist": ("list", "processes", "--json"),
    "prettylist": ("list", "processes", "--json"),
    "sendSignal": ("kill", "--signal"),
    "sockets": ("list", "sockets"),
    "processes": ("list", "processes"),
    "values": ("list", "values"),
}

_MANAGER = "that is a manager's: with Circus"
_NOT_STOPPED = "papad does not stop processes, their manager does (circusctl stop NAME)"
_NOT_RESTARTED = "papad does not restart processes, their manager does (circusctl restart NAME)"
_NO_FILE = "papad has no file of processes to read"
_NOTHING_TO_SAVE = (
    "papad keeps what it holds by itself, over its own restart; after a reboot the manager starts it anew"
)
_ONE_PROCESS = (
    "processes need no such word: 'papactl list processes', 'papactl run NAME -- COMMAND', 'papactl kill NAME'"
)
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
    "save": _NOTHING_TO_SAVE,
    "resurrect": _NOTHING_TO_SAVE,
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
    "process": _ONE_PROCESS,
    "service": _ONE_PROCESS,
    "container": _ONE_PROCESS,
    "value": "'papactl set NAME VALUE' keeps a value, 'papactl get NAME' prints it, 'papactl unset NAME' forgets it",
    "reload-or-restart": f"{_NOT_RESTARTED}; 'papactl kill NAME --signal HUP' has most programs reload",
    "startOrRestart": f"{_NOT_RESTARTED}; 'papactl run NAME -- COMMAND' starts one, and gives it if it runs already",
    "freeze": "'papactl kill NAME --signal STOP' suspends a process",
    "thaw": "'papactl kill NAME --signal CONT' resumes a process",
    "clean": "'papactl remove NAME' forgets a process and its output",
    "is-failed": "'papactl status NAME' says how a process has ended; its exit status is 3 then",
    "reset-failed": "'papactl remove NAME' forgets a process that has ended, and its output",
    "reset": "papad counts no restarts; 'papactl remove NAME' forgets a process that has ended, and its output",
    "cat": "'papactl show NAME' shows the command, 'papactl logs NAME' the output",
    "env": f"papad does not show a process's environment; {_MANAGER}, 'circusctl options NAME'",
    "options": f"'papactl show NAME' shows those that a process runs with; {_MANAGER}, 'circusctl options NAME'",
    "globaloptions": f"{_MANAGER}, 'circusctl globaloptions'",
    "numwatchers": f"{_MANAGER}, 'circusctl numwatchers'",
    "dstats": f"'papactl top' shows what processes use; {_MANAGER}, 'circusctl dstats'",
    "listen": "'busctl monitor org.papa.Kernel' shows what comes, goes and changes",
    "open": "'papactl -H HOST COMMAND' is for the papad of another machine",
    "edit": f"{_NO_FILE}; for papad's own unit, 'systemctl edit papa'",
    "set-property": "a process's limits are given when it starts: 'papactl run --memory-max 64m NAME -- COMMAND'",
    "mask": f"{_SERVICE}: 'systemctl mask papa.socket papa.service'",
    "is-enabled": f"{_SERVICE}: 'systemctl is-enabled papa.socket'",
    "unstartup": f"{_SERVICE}: 'systemctl disable papa.socket'",
    "list-unit-files": f"{_NO_FILE}; 'papactl list processes' shows what is there",
    "dump": _NOTHING_TO_SAVE,
    "reloadLogs": "'papactl consume --to FILE' opens its file anew at SIGHUP, or rotates it by --rotate-size",
    "rename": "a name is given when a process starts: 'papactl run NAME -- COMMAND'",
    "id": "'papactl status NAME' shows the PID; processes have names and no numbers",
    "journal": "'journalctl PAPA_PROCESS=NAME' shows the output of a process that was run with --journal",
}

#: The same of words below `papactl socket`.
SOCKET_SAME: Final[dict[str, tuple[str, ...]]] = {
    "create": ("make",),
    "add": ("make",),
    "new": ("make",),
    "rm": ("remove",),
    "delete": ("remove",),
    "del": ("remove",),
    "close": ("remove",),
    "list": ("list", "sockets"),
    "ls": ("list", "sockets"),
    "status": ("list", "sockets"),
    "show": ("show",),
    "inspect": ("show",),
}

_DIRECTORY, _ENV, _MEMORY = "here it is --directory", "here it is --env NAME=VALUE", "here it is --memory-max"
_OWN_NAME = "the name stands alone, before the command: 'papactl run NAME -- COMMAND'"
_PORT = "'papactl socket make NAME --port PORT' makes a socket, and --socket NAME hands it to the process"

#: What to type instead of options of other tools' commands that start a process, at `papactl run`.
RUN_OPTIONS: Final[dict[str, str]] = {
    "-n": _OWN_NAME,
    "--name": _OWN_NAME,
    "-u": "here it is --user",
    "-w": _DIRECTORY,
    "--cwd": _DIRECTORY,
    "--chdir": _DIRECTORY,
    "--workdir": _DIRECTORY,
    "--working-dir": _DIRECTORY,
    "-e": _ENV,
    "--setenv": _ENV,
    "-m": _MEMORY,
    "--memory": _MEMORY,
    "--cpus": "here it is --cpu-quota, per cent of one processor",
    "--rlimit": "here it is --limit",
    "--ulimit": "here it is --limit",
    "--rm": "here it is --remove, with --follow",
    "--detach": "a process is left to papad unless --follow is given",
    "--restart": _NOT_RESTARTED,
    "-p": _PORT,
    "--port": _PORT,
    "--publish": _PORT,
}

#: The same at `papactl socket make`.
SOCKET_OPTIONS: Final[dict[str, str]] = {
    "-p": "here it is --port",
    "--unix": "here it is --path",
    "--file": "here it is --path",
    "--bind": "here it is --host and --port",
    "--listen": "here it is --host and --port",
    "--address": "here it is --host and --port",
    "--mode": "here it is --umask",
}

_SYSTEMDS = "a hosted socket is there from 'papactl socket make NAME' on until 'papactl socket remove NAME'"

#: What to type instead of words below `papactl socket`.
SOCKET_INSTEAD: Final[dict[str, str]] = {
    "start": _SYSTEMDS,
    "stop": _SYSTEMDS,
    "enable": _SYSTEMDS,
    "disable": _SYSTEMDS,
    "restart": f"{_SYSTEMDS}; it has nothing to restart",
    "open": "'papactl run NAME --socket SOCKET -- COMMAND' hands it to a process",
    "set": "a socket's options are given when it is made: remove it, and make it anew",
}
