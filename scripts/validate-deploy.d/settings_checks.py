"""Rules on settings and command lines: that every key, variable, file and subcommand named is a real one."""

import json
import os
import pathlib
import re
import subprocess

import yaml

import compose_checks
import k8s_pods
from tree import Finding, flatten

COMMANDS = {
    ("receiver",),
    ("processor",),
    ("topics", "create"),
    ("topics", "check"),
    ("config", "check"),
    ("config", "show"),
    ("lag",),
    ("audit",),
    ("send",),
    ("tail",),
    ("dev",),
    ("--help",),
}
PAGE = "docs/deploy.md"
SECRET_PATHS = re.compile(r"file:([^,\s]+)")

RULES = {
    "settings/known": "the list of known settings can be had",
    "settings/toml": "every settings file is TOML",
    "settings/key": "every key of a settings file is a setting",
    "settings/env": "every FRONTSTREAM_ variable is a setting",
    "settings/secret": "a secret that a setting names by file is mounted there",
    "command/known": "every command line starts with a command of frontstream",
    "command/config": "every --config names the file that is mounted there",
}


def check(tree):
    known, complaint = known_settings(tree)
    if complaint:
        yield Finding("settings/known", "frontstream config show --json", complaint)
    for path in tree.settings_files():
        for key, _ in flatten(tree.settings(path)):
            if key not in known:
                yield Finding("settings/key", path, f"{key} is no setting")
    variables = {"FRONTSTREAM_CONFIG"} | {f"FRONTSTREAM_{key.upper().replace('.', '_')}" for key in known}
    for unit in units(tree):
        for name, value in unit.environment.items():
            if name.startswith("FRONTSTREAM_") and name not in variables:
                yield Finding("settings/env", unit.where, f"{name} is no setting")
            for path in SECRET_PATHS.findall(value or ""):
                if path not in unit.files:
                    yield Finding(
                        "settings/secret", unit.where, f"{name} names {path}, mounted are {sorted(unit.files)}"
                    )
        yield from _command(unit)
    for words in documented(tree):
        if not _known(words):
            yield Finding("command/known", PAGE, f"frontstream {' '.join(words)} is no command")


def known_settings(tree):
    """The settings by name, from the binary where one is built, else from settings.txt; and what was wrong."""
    # A table of librdkafka's own names, which `config show` lists one by one and only when there are any.
    always = {"kafka.properties"}
    for profile in ("release", "debug"):
        binary = tree.path(f"target/{profile}/frontstream")
        if binary.is_file():
            plain = {name: value for name, value in os.environ.items() if not name.startswith("FRONTSTREAM_")}
            done = subprocess.run([binary, "config", "show", "--json"], capture_output=True, text=True, env=plain)
            try:
                return always | {item["key"] for item in json.loads(done.stdout)["settings"]}, None
            except (json.JSONDecodeError, KeyError, TypeError):
                return _listed(), f"{binary} gave no list of settings: {(done.stderr or done.stdout)[:200].strip()}"
    return _listed(), None


def _listed():
    lines = pathlib.Path(__file__).with_name("settings.txt").read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


class Unit:
    """One container as it would be started: arguments, environment, and the files it is given by path."""

    def __init__(self, where, arguments, environment, files, config):
        self.where, self.arguments, self.environment = where, arguments, environment
        self.files, self.config = set(files), config


def units(tree):
    compose = tree.compose()
    for name, service in compose.get("services", {}).items():
        if compose_checks.ours(service):
            _, target = compose_checks.settings_of(tree, compose, service)
            sources = [
                item if isinstance(item, str) else item.get("target", item["source"])
                for item in service.get("secrets", [])
            ]
            files = [f"/run/secrets/{source}" for source in sources] + [
                item["target"] for item in service.get("configs", [])
            ]
            environment = {key: str(value) for key, value in (service.get("environment") or {}).items()}
            yield Unit(f"docker-compose.yml: {name}", service.get("command", []), environment, files, target)
    secrets = {
        item["metadata"]["name"]: item for item in yaml.safe_load_all(tree.path("k8s/secret.example.yaml").read_text())
    }
    for kustomization in tree.kustomizations():
        for item in kustomization.workloads():
            pod = item["spec"]["template"]["spec"]
            for container in pod["containers"] + pod.get("initContainers", []):
                files = set(k8s_pods.mounted_files(pod, container, kustomization, secrets))
                environment = {variable["name"]: variable.get("value") for variable in container.get("env", [])}
                config = next((path for path in files if path.endswith("frontstream.toml")), None)
                where = f"{kustomization.name}: {item['kind']}/{item['metadata']['name']}"
                yield Unit(where, container.get("args", []), environment, files, config)


def _known(words):
    return any(tuple(words[: len(known)]) == known for known in COMMANDS)


def _command(unit):
    words = unit.arguments
    if not isinstance(words, list) or not _known(words):
        yield Finding("command/known", unit.where, f"frontstream {words} is no command")
        return
    configs = [words[index + 1] for index, word in enumerate(words[:-1]) if word == "--config"]
    if words[-1:] == ["--config"] or len(configs) != 1 or configs[0] != unit.config:
        yield Finding("command/config", unit.where, f"--config {configs}, mounted is {unit.config}")


def command_lines(tree):
    """Every frontstream command line of the files and of the operators' page, as words."""
    for item in tree.dockerfile():
        if item.keyword == "CMD":
            yield json.loads(item.value)
    for unit in units(tree):
        yield unit.arguments
    yield from documented(tree)


def documented(tree):
    """Command lines in the code blocks of docs/deploy.md: after `frontstream`, or after a container's name."""
    page = tree.path(PAGE)
    for block in re.findall(r"(?ms)^ *```\w*\n(.*?)^ *```", page.read_text() if page.exists() else ""):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().split(" #")[0]
            found = re.search(r"(?:^|-- |exec \S+ )frontstream (.+)$", line)
            found = found or re.search(r"docker compose run --rm (?:topics|receiver|processor) (.+)$", line)
            if found:
                yield found.group(1).split()
