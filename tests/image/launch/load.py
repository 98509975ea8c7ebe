"""Clients of a service, run inside its network: one line of JSON for each request.

Usage: load.py URL KEY CLIENTS. Each request has a connection of its own, to the first address of
the service that takes it, as HTTP clients do.
"""

import http.client
import json
import sys
import threading
from contextlib import closing, suppress
from urllib.parse import urlsplit

QUESTION = {
    "messages": [{"role": "user", "content": "Tell me a story."}],
    "max_tokens": 12,
    "stream": True,
}


def ask(host: str, key: str) -> str:
    """Ask once; return how it ended."""
    state = "refused"
    gone = suppress(OSError, http.client.HTTPException)  # which is what is counted here
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection, gone:
        connection.connect()
        state = "unanswered"
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(QUESTION), headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            return f"status {response.status}"
        state = "cut"
        if b"data: [DONE]" in response.read():
            state = "whole"
    return state


def client(host: str, key: str) -> None:
    while True:
        print(ask(host, key), flush=True)


if __name__ == "__main__":
    url, key, clients = sys.argv[1:]
    for _ in range(int(clients)):
        threading.Thread(target=client, args=(urlsplit(url).netloc, key)).start()
