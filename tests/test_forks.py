"""A fork runs what was asked for, with its own arguments, environment and output, and its exit code is told."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.forks import Forked, forks
from tests.nodes import nodes

PROGRAM = """
import os, sys, time, ray  # Ray is no part of what is imported before
print(sys.argv[1:], os.environ["WORD"], "torch" in sys.modules)
match sys.argv[1]:
    case "sleep": sys.stdout.flush(); time.sleep(60)
    case "raise": raise ValueError("of the program")
    case number: sys.exit(int(number))
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with forks(tmp_path_factory.mktemp("forks")) as address:
        yield address


@pytest.fixture
def module(tmp_path: Path) -> str:
    (tmp_path / "program.py").write_text(PROGRAM)
    return "program"


def test_a_program_ends_with_its_exit_code_and_output(address: str, module: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WORD": "here"}
    started = {name: Forked(address, module, [name], environment, tmp_path / name) for name in ("0", "3", "raise")}
    ended = {name: process.wait(timeout=60) for name, process in started.items()}
    assert {name: exit_code for name, (exit_code, _) in ended.items()} == {"0": 0, "3": 3, "raise": 1}
    assert ended["0"][1] == "['0'] here True\n"
    assert "ValueError: of the program" in ended["raise"][1]
    killed = Forked(address, module, ["sleep"], environment, tmp_path / "sleep")
    with pytest.raises(TimeoutError):
        killed.wait(timeout=0.1)
    killed.kill()
    assert killed.wait(timeout=1)[0] == -signal.SIGKILL


@pytest.mark.slow
def test_workers_of_a_node_are_forks_with_the_environment_of_ray(address: str, module: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        'import os, ray\nray.init(os.environ["RAY_ADDRESS"], runtime_env={"env_vars": {"WORD": "here"}})\n'
        "@ray.remote\n"
        "class Worker:\n"
        "    def look(self):\n"
        '        parent = open(f"/proc/{os.getppid()}/cmdline").read().split(chr(0))\n'
        '        return parent[1:3], os.environ["WORD"], ray.get_runtime_context().get_job_id()\n'
        "first = Worker.remote()\n"
        "print(ray.get(first.look.remote()), ray.get_runtime_context().get_job_id())\n"
        "ray.kill(first)\n"
        "print(ray.get(Worker.remote().look.remote()))\n"
    )
    with nodes(tmp_path, 1, forks=address) as cluster:
        environment = {**cluster.environment, "PYTHONPATH": str(tmp_path)}
        exit_code, said = Forked(address, module, [], environment, tmp_path / "said").wait(timeout=120)
    assert exit_code == 0, said
    seen = "(['-m', 'tests.forks'], 'here', '01000000')"
    assert said.count(seen) == 2, said
    assert f"{seen} 01000000" in said
