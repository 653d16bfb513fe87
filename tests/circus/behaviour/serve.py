"""Accepts connections on the descriptor that it is given, and says which process it is and which socket it has."""

import os
import socket
import sys

with socket.socket(fileno=int(sys.argv[1])) as listener:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(f"{os.getpid()} {os.fstat(listener.fileno()).st_ino}\n".encode())
