"""What is being judged, read once: Dockerfile, docker-compose.yml and every kustomization, rendered."""

import functools
import os
import pathlib
import re
import shlex
import subprocess
import tomllib
from dataclasses import dataclass, field

import yaml

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
DEFAULT_DRAIN_SECONDS = 20.0
DEFAULT_TRANSACTION_SECONDS = 10.0


class Damaged(Exception):
    """A file that cannot be read at all; the rule says which kind."""

    def __init__(self, rule, where, text):
        super().__init__(text)
        self.rule, self.where, self.text = rule, where, text


@dataclass(frozen=True)
class Finding:
    rule: str
    where: str
    text: str

    def __str__(self):
        return f"{self.where}: {self.text} [{self.rule}]"


class StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice, which PyYAML takes in silence and Compose does not."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True)
class Instruction:
    stage: int
    keyword: str
    value: str
    line: int


@dataclass
class Kustomization:
    name: str
    objects: list = field(default_factory=list)

    def of(self, *kinds):
        return [item for item in self.objects if item.get("kind") in kinds]

    def named(self, kind, name):
        return next((item for item in self.of(kind) if item["metadata"]["name"] == name), None)

    def workloads(self):
        return self.of("Deployment", "StatefulSet", "Job")


def seconds(text):
    """Reads a duration as the settings and Compose write it: 250ms, 20s, 1m30s."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", str(text))
    if not parts or "".join(number + unit for number, unit in parts) != str(text):
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def drain_seconds(settings):
    processor = settings.get("processor", {})
    return seconds(processor.get("drain_timeout", f"{DEFAULT_DRAIN_SECONDS:g}s"))


def stop_seconds(settings):
    """The longest a clean stop of the processor takes: the drain, and one transaction that hangs at its end."""
    processor = settings.get("processor", {})
    hang = seconds(processor.get("transaction_timeout", f"{DEFAULT_TRANSACTION_SECONDS:g}s"))
    return drain_seconds(settings) + hang


def listen_port(settings, section):
    """Port and whether other machines reach it; None where the file leaves the loopback default."""
    listen = settings.get(section, {}).get("listen", "127.0.0.1:0")
    host, _, port = listen.rpartition(":")
    return int(port), host in ("0.0.0.0", "[::]")


def flatten(table, prefix=""):
    """Dotted keys of a settings file. What kafka.properties holds is librdkafka's, and an array is a value."""
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name != "kafka.properties":
            yield from flatten(value, f"{name}.")
        else:
            yield name, value


class Tree:
    """The files below one root. Each part is read when asked for, so that a self-test damages and reads one part."""

    def __init__(self, root, overlays="*"):
        self.root, self.overlays = pathlib.Path(root), overlays
        self._cache = {}

    def path(self, name):
        return self.root / name

    def _once(self, key, read):
        if key not in self._cache:
            self._cache[key] = read()
        return self._cache[key]

    def cargo(self):
        return self._once("cargo", lambda: tomllib.loads(self.path("Cargo.toml").read_text()))

    def dockerfile(self):
        return self._once("dockerfile", lambda: list(instructions(self.path("Dockerfile").read_text())))

    def compose(self):
        return self._once("compose", self._read_compose)

    def _read_compose(self):
        try:
            content = yaml.load(self.path("docker-compose.yml").read_text(), StrictLoader)
        except yaml.YAMLError as error:
            raise Damaged("compose/yaml", "docker-compose.yml", str(error).replace("\n", " ")) from error
        return content

    def kustomization_folders(self):
        overlays = sorted(self.path("k8s/overlays").glob(f"{self.overlays}/kustomization.yaml"))
        return ["k8s/base"] + [str(item.parent.relative_to(self.root)) for item in overlays]

    def kustomizations(self):
        return self._once("k8s", lambda: [self._render(folder) for folder in self.kustomization_folders()])

    def _render(self, folder):
        files = sorted({item for part in ("k8s/base", folder) for item in self.path(part).rglob("*") if item.is_file()})
        objects, complaint = _build(str(self.root), folder, tuple((str(item), item.read_bytes()) for item in files))
        if complaint:
            raise Damaged("k8s/build", folder, complaint)
        return Kustomization(folder, objects)

    def settings_files(self):
        """Every frontstream.toml that a Compose service or a kustomization uses, by path."""
        files = [item["file"] for item in self.compose().get("configs", {}).values() if item["file"].endswith(".toml")]
        for folder in self.kustomization_folders():
            kustomization = yaml.safe_load(self.path(folder).joinpath("kustomization.yaml").read_text())
            for generator in kustomization.get("configMapGenerator", []):
                files += [f"{folder}/{name.split('=')[-1]}" for name in generator.get("files", [])]
        return sorted({os.path.normpath(name) for name in files if name.endswith(".toml")})

    def settings(self, path):
        try:
            return tomllib.loads(self.path(path).read_text())
        except FileNotFoundError as error:
            raise Damaged("settings/toml", path, "there is no such file") from error
        except tomllib.TOMLDecodeError as error:
            raise Damaged("settings/toml", path, str(error)) from error


@functools.cache
def _build(root, folder, contents):
    """The objects of a kustomization, or what kustomize says is wrong. Remembered by the contents of its files,
    since the self-test judges the same ones again and again; nobody changes the objects."""
    command = shlex.split(os.environ["KUSTOMIZE_COMMAND"]) + [f"{root}/{folder}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None, done.stderr.strip().replace(f"{root}/", "")
    return [item for item in yaml.load_all(done.stdout, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if item], None


def instructions(text):
    """The instructions of a Dockerfile: comments out, continued lines joined."""
    stage, start, joined = -1, None, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and not joined):
            continue
        start = start or number
        if line.rstrip().endswith("\\"):
            joined += line.rstrip()[:-1] + "\n"
            continue
        keyword, _, value = (joined + line).strip().partition(" ")
        keyword = keyword.upper()
        stage += keyword == "FROM"
        yield Instruction(stage, keyword, value.strip(), start)
        start, joined = None, ""
