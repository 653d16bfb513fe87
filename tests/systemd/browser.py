"""Runs inside a container: shows a browser a page that tries all it can to get a command to the kernel, and to a
listener.

The listener, on a port beside the kernel's, notes what the browser sent to it: what the kernel got was the same. Prints
that, and what the page saw of its tries, as JSON.
"""

import contextlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

KERNEL, LISTENER, PAGE = 20202, 20203, 20280
SCRIPT = """
const line = '\\r\\n';
const commands = way => `x${line}set pwned ${way}${line}make process pwned /usr/bin/touch /tmp/pwned${line}`;
function form(port) {
    return new Promise(resolve => {
        const frame = document.createElement('iframe'), form = document.createElement('form'),
              text = document.createElement('textarea');
        frame.name = `frame${port}`;
        document.body.append(frame, form);
        form.method = 'POST'; form.enctype = 'text/plain'; form.action = `http://localhost:${port}/`;
        form.target = frame.name;
        text.name = commands('form'); text.value = commands('form');
        form.append(text);
        frame.onload = () => resolve('loaded');
        form.submit();
        setTimeout(() => resolve('nothing'), 3000);
    });
}
function websocket(url) {
    return new Promise(resolve => {
        const socket = new WebSocket(url);
        socket.onopen = () => resolve('open');
        socket.onerror = socket.onclose = () => resolve('closed');
        setTimeout(() => resolve('nothing'), 3000);
    });
}
function turn(port) {
    return new Promise(resolve => {
        const peer = new RTCPeerConnection({iceServers: [{urls: `turn:127.0.0.1:${port}?transport=tcp`,
            username: commands('turn'), credential: commands('turn')}]});
        peer.createDataChannel('x');
        peer.onicegatheringstatechange = () => peer.iceGatheringState === 'complete' && resolve('gathered');
        peer.createOffer().then(offer => peer.setLocalDescription(offer));
        setTimeout(() => resolve('nothing'), 3000);
    });
}
const send = (url, options) => fetch(url, {mode: 'no-cors', ...options}).then(() => 'answered', error => 'failed');
async function attack(port) {
    const http = `http://localhost:${port}/`;
    return {
        'form': await form(port),
        'fetch POST': await send(http, {method: 'POST', body: commands('fetch')}),
        'fetch GET': await send(http + encodeURI(commands('get'))),
        'fetch 127.0.0.1': await send(`http://127.0.0.1:${port}/`, {method: 'POST', body: commands('address')}),
        'fetch TLS': await send(`https://localhost:${port}/`, {method: 'POST', body: commands('tls')}),
        'WebSocket': await websocket(`ws://localhost:${port}/`),
        'WebSocket TLS': await websocket(`wss://localhost:${port}/`),
        'TURN': await turn(port),
    };
}
(async () => {
    const seen = {kernel: await attack(KERNEL), listener: await attack(LISTENER)};
    await fetch('/done', {method: 'POST', body: JSON.stringify(seen)});
})();
""".replace("KERNEL", str(KERNEL)).replace("LISTENER", str(LISTENER))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]  # fmt: skip

received: list[str] = []
seen: dict[str, object] = {}
done = threading.Event()


class Page(http.server.BaseHTTPRequestHandler):
    """Serves the page, and hears what it saw."""

    def do_GET(self) -> None:
        """The page."""
        body = f"<!doctype html><body><script>{SCRIPT}</script>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        """What it saw."""
        seen.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        done.set()

    def log_message(self, *_: object) -> None:
        """Silent."""


def listen(sock: socket.socket) -> None:
    """Note the request that comes on each connection, answer nothing, and close it."""
    while True:
        connection, _ = sock.accept()
        threading.Thread(target=note, args=(connection,), daemon=True).start()


def note(connection: socket.socket) -> None:
    """Note one request; on a connection that the browser keeps in hand none comes for long."""
    data = b""
    with connection, contextlib.suppress(OSError):
        while not is_whole(data) and (piece := connection.recv(65536)):
            data += piece
        received.append(data.decode("latin-1"))


def is_whole(data: bytes) -> bool:
    """Whether it is a whole request of HTTP, or the beginning of something else."""
    head, end, body = data.partition(b"\r\n\r\n")
    if re.match(rb"[A-Z]*$|[A-Z]+ /", data) is None:
        return True
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and len(body) >= int(length[1] if length else 0)


def main(user: str) -> None:
    listener = socket.create_server(("127.0.0.1", LISTENER))
    threading.Thread(target=listen, args=(listener,), daemon=True).start()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PAGE), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="papa-browser-", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o777)  # noqa: S103 (of a container)
        command = ["runuser", "-u", user, "--", "chromium", *FLAGS, f"--user-data-dir={folder}/data"]
        with open(f"{folder}/log", "wb") as log:
            browser = subprocess.Popen(
                [*command, "--remote-debugging-port=0", f"http://localhost:{PAGE}/"],
                stdout=log, stderr=log, start_new_session=True, env={**os.environ, "HOME": folder},
            )  # fmt: skip
            try:
                if not done.wait(60):
                    sys.exit(f"the page did not come to its end: {Path(log.name).read_text()[-3000:]}")
            finally:
                os.killpg(browser.pid, signal.SIGKILL)
                browser.wait()
    print(json.dumps({"seen": seen, "received": received}))


main(sys.argv[1])
