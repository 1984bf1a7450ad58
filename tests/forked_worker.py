"""What Ray starts in place of a worker: it asks for a fork that is the worker, see `tests/forks.py`.

Imports next to nothing: that is what it is for.
"""

import json
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

ADDRESS = "ICM_BENCH_TEST_FORKS"  # the variable with the address of the socket
FORKED_WORKER = __file__


def ask(
    address: str, module: str, arguments: list[str], environment: dict[str, str], folder: str, *files: int
) -> tuple[int, socket.socket]:
    """Ask for a program in a fork; give its process's id, and the connection over which its exit code comes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    wanted = {"module": module, "arguments": arguments, "environment": environment, "folder": folder}
    asked = json.dumps(wanted).encode() + b"\n"
    sent = socket.send_fds(connection, [asked], list(files))
    connection.sendall(asked[sent:])
    return int(connection.recv(16)), connection


if __name__ == "__main__":
    context: dict[str, Any] = {}
    arguments = []
    for argument in sys.argv[1:]:
        name, _, value = argument.partition("=")
        if name == "--serialized-runtime-env-context":
            context = json.loads(value)
        elif name != "--language":
            arguments.append(argument)
    variables = {**os.environ, **context.get("env_vars", {})}
    match context.get("command_prefix", []):  # what a shell would do first
        case ["cd", quoted, "&&"]:
            [folder] = shlex.split(quoted)
        case []:
            folder = str(Path.cwd())
    ask(variables[ADDRESS], "ray._private.workers.default_worker", arguments, variables, folder, 1, 2)
