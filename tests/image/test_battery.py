"""The battery in the image: several answers at once, and a model's program locked in."""

from __future__ import annotations

import json
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

Run = Callable[..., CompletedProcess[str]]
PYTHON = ("--entrypoint", "/opt/llmdeploy/bin/python3")
HOSTILE = {
    "fork": "import os\nos.fork()",
    "network": "import socket\nsocket.socket()",
    "file": "print(open('/models/catalog.json').read())",
    "write": "open('/tmp/escaped', 'w')",
    "kill": "import os\nos.kill(1, 15)",
    "key": "print(open('/proc/1/environ').read())",
}
REFUSED = "PermissionError: [Errno 1] Operation not permitted"


@pytest.mark.parametrize("user", ["10001:10001", "12345:54321", "0:0"])
def test_a_models_program_can_compute_and_print_and_nothing_else(run: Run, user: str) -> None:
    programs = {
        "dice": "import random\nprint(random.randint(1, 6))",
        "memory": "x = 'a' * 10**10",
        **HOSTILE,
    }
    script = (
        "import json, sys\nfrom entrypoint.compare import sandbox\n"
        "found = {n: vars(sandbox.run(p)) for n, p in json.loads(sys.argv[1]).items()}\n"
        "print(json.dumps(found))"
    )
    key = ["--env", "LLMDEPLOY_API_KEY=secret"]
    done = run("-c", script, json.dumps(programs), flags=["--user", user, *PYTHON, *key])
    found = json.loads(done.stdout)
    assert found.pop("dice")["output"].strip() in set("123456")
    assert found.pop("memory")["error"] == "MemoryError"
    for name, outcome in found.items():
        assert outcome["ran"], outcome
        assert outcome["error"].startswith(REFUSED), (name, outcome)
        assert outcome["output"] == ""
