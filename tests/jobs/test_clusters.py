"""Places to run: what cluster.yaml, jobs/clusters/ and docs/places.md say is run or checked as far as one machine can.

What starts and stops Ray does so in namespaces of its own: `ray stop` ends every Ray that it sees.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from benchmark.cli import main
from benchmark.common.storage.places import cache_dir
from tests.conftest import REPOSITORY

CLUSTERS = REPOSITORY / "jobs" / "clusters"
BIN = Path(sys.executable).parent
APART = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-ec"]


def read(name: str) -> Any:
    return yaml.safe_load((REPOSITORY / name).read_text(encoding="utf-8"))


def apart(script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script where it sees neither other processes nor any network but a loopback of its own."""
    if shutil.which("unshare") is None or subprocess.run([*APART, "ip link set lo up"], capture_output=True).returncode:
        pytest.skip("namespaces of one's own are not allowed here")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))}
    environment |= {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0", **variables}
    script = f"ip link set lo up\n{script}"
    with tempfile.TemporaryDirectory(prefix="r-", dir="/tmp") as short:  # what sockets are called has a limit
        environment["RAY_TMPDIR"] = short
        command = [*APART, script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_cluster_of_aws_is_valid_and_has_what_its_workers_need() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = read("cluster.yaml")
    prepared = prepare_config(cluster)
    validate_config(prepared)  # by Ray's schema, as `ray up` does
    nodes = prepared["available_node_types"]
    assert {name: node["min_workers"] for name, node in nodes.items()} == {"head": 0, "gpu_spot": 0, "gpu_on_demand": 0}
    assert all(node["node_config"]["IamInstanceProfile"]["Name"] for node in nodes.values())
    assert [name for name, node in nodes.items() if "InstanceMarketOptions" in node["node_config"]] == ["gpu_spot"]
    assert nodes["head"]["resources"] == {"CPU": 0}
    assert "~/.ray/auth_token" in cluster["file_mounts"]
    pinned = re.search(r"ray:([\d.]+)-py311", cluster["docker"]["image"])
    constraint = re.search(r"^ray==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert constraint
    assert pinned[1] == constraint[1]


@pytest.mark.long("the commands of cluster.yaml start a head that nobody can join, or anybody")
def test_the_commands_of_the_cluster_start_a_head_and_let_workers_join_with_its_token_alone(tmp_path: Path) -> None:
    from ray.autoscaler._private.util import prepare_config

    cluster = read("cluster.yaml")
    local = {"cluster_name": "icm-bench", "provider": {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}}
    homes = {name: tmp_path / name for name in ("head", "worker", "stranger")}
    for folder in homes.values():
        (folder / ".ray").mkdir(parents=True)
    bootstrap = prepare_config({**local, "auth": {"ssh_user": "nobody"}})
    (homes["head"] / "ray_bootstrap_config.yaml").write_text(yaml.safe_dump(bootstrap))
    token = "0123456789abcdef" * 4
    for name in ("head", "worker"):  # as file_mounts do
        (homes[name] / ".ray" / "auth_token").write_text(token)
    worker = cluster["worker_start_ray_commands"][-1]  # the one before would stop the head, which is on this machine
    script = "\n".join(
        [
            f"export HOME={homes['head']} RAY_HEAD_IP=127.0.0.1",
            *cluster["setup_commands"][:1],
            *cluster["head_start_ray_commands"],
            f"(export HOME={homes['worker']}; {worker})",
            f"(export HOME={homes['stranger']}; {worker} || echo REFUSED)",
            "RAY_AUTH_MODE=token python -c \"import ray; ray.init(address='auto'); "
            "print('NODES', sum(node['Alive'] for node in ray.nodes()))\"",
        ]
    )
    ran = apart(script)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "REFUSED" in ran.stdout
    assert "NODES 2" in ran.stdout
    assert (homes["head"] / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
    assert token not in ran.stdout + ran.stderr


def test_the_job_of_kubernetes_is_valid_unprivileged_and_authenticated() -> None:
    job = read("jobs/clusters/rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    # The fields of RayJobSpec that are used, by the API reference of KubeRay 1.5.
    assert set(job["spec"]) <= {
        "entrypoint", "suspend", "backoffLimit", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished",
        "submissionMode", "rayClusterSpec",
    }  # fmt: skip
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["autoscalerOptions"]["version"] == "v2"
    (gpu,) = cluster["workerGroupSpecs"]
    assert (gpu["replicas"], gpu["minReplicas"]) == (0, 0)
    for group in (cluster["headGroupSpec"], gpu):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, "1.34", strict=True)
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert "privileged" not in container["securityContext"]
        with pytest.raises(kubernetes_validate.ValidationError):  # and the check can fail
            kubernetes_validate.validate({**pod, "spec": {**pod["spec"], "contaners": []}}, "1.34", strict=True)


def test_the_image_is_pinned_and_runs_as_nobody_in_particular() -> None:
    file = CLUSTERS / "Dockerfile"
    found = subprocess.run([BIN / "hadolint", file], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")
    text = file.read_text()
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", text, re.MULTILINE)
    assert all((REPOSITORY / name).exists() for line in copied for name in line.split())


SLURM = {
    "scontrol": '#!/bin/bash\nif [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$HOME/scontrol"; fi\n',
    "srun": '#!/bin/bash\nwhile [[ "$1" == --* ]]; do shift; done\n${RAY_IS_BROKEN:+true} "$@"\n',
}


def slurm(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run slurm.sh on one node, with stand-ins for the two commands of Slurm that it calls."""
    home, stubs = tmp_path / "home", tmp_path / "bin"
    home.mkdir(exist_ok=True)
    stubs.mkdir(exist_ok=True)
    for name, text in SLURM.items():
        (stubs / name).write_text(text)
        (stubs / name).chmod(0o755)
    words = " ".join(f"'{word}'" for word in (str(CLUSTERS / "slurm.sh"), *arguments))
    names = {"HOME": str(home), "ICM_BENCH_CACHE": str(cache_dir()), "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "1"}
    return apart(f"export PATH={stubs}:$PATH\nbash {words}", SLURM_JOB_NODELIST="node", **names, **variables)


@pytest.mark.long("the script of Slurm starts no Ray that the recipe finds")
def test_a_job_of_slurm_gives_the_tables_of_a_local_run(
    tiny_random: dict[str, Any], toy_root: Path, tmp_path: Path
) -> None:
    recipe = {
        "name": "slurm",
        "datasets": [{"name": "toy", "root": str(toy_root)}],
        "backbones": [tiny_random],
        "interventions": {"kinds": ["grayscale"]},
        "sweep": {"projections": ["identity"], "predictors": ["zero_shot"], "seeds": [0]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    words = [str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "there"), "--out", str(tmp_path / "there_report")]
    ran = slurm(tmp_path, *words)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert list((tmp_path / "home" / ".ray").iterdir()) == []  # neither token nor exit code is left behind
    assert main(["run", words[0], "--store", str(tmp_path / "here"), "--out", str(tmp_path / "here_report")]) == 0
    for name in ("tables/accuracies.csv", "tables/metrics.csv", "tables/per_class.csv"):
        assert (tmp_path / "there_report" / name).read_bytes() == (tmp_path / "here_report" / name).read_bytes()


def test_a_job_of_slurm_fails_where_nothing_ran(tmp_path: Path) -> None:
    assert "name a recipe" in slurm(tmp_path).stderr
    ran = slurm(tmp_path, "recipe.yaml", RAY_IS_BROKEN="1")
    assert ran.returncode == 1
    assert "the recipe was not run, since Ray did not start" in ran.stderr


def test_each_place_takes_five_commands_and_ends_by_taking_it_down() -> None:
    page = (REPOSITORY / "docs" / "places.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")}
    for name, last in {"AWS": "ray down", "Kubernetes": "kubectl delete", "Slurm": "scancel"}.items():
        (block,) = re.findall(r"```sh\n(.+?)```", sections[name], re.DOTALL)
        commands = [line for line in block.splitlines() if line.strip()]
        assert len(commands) <= 5
        assert commands[-1].startswith(last)
