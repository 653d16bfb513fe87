"""Prints Circus's events, each as JSON: topic and message."""

import json

import zmq

socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.SUBSCRIBE, b"watcher.")
socket.connect("tcp://127.0.0.1:5556")
while True:
    topic, message = socket.recv_multipart()
    print(json.dumps([topic.decode(), json.loads(message)]), flush=True)
