"""Rules on docker-compose.yml: the specification's schema, and what no schema sees."""

import importlib.resources
import json
import re

import jsonschema

from tree import Finding, listen_port, seconds, stop_seconds

FILE = "docker-compose.yml"

RULES = {
    "compose/yaml": "the file is YAML, no key twice",
    "compose/schema": "the file follows the Compose specification",
    "compose/loopback": "every published port is on 127.0.0.1",
    "compose/hardening": "no service keeps a capability or gains one, and ours cannot write to their root",
    "compose/image-pinned": "every image is named with a version; ours is the version of Cargo.toml",
    "compose/versions": "broker and registry are the versions that scripts/ starts",
    "compose/grace": "a stop gets more time than the drain takes",
    "compose/depends": "what is waited for exists and can be waited for, and topics come before those who use them",
    "compose/reference": "every config, secret and volume named is declared, and its file exists",
    "compose/port": "published and checked ports are those that the settings open",
    "compose/address": "brokers and registry of the settings are services of the file",
    "compose/interpolation": "nothing is taken from the caller's environment",
    "compose/broker": "the broker makes no topics by itself and does not delay groups",
}


def check(tree):
    compose = tree.compose()
    yield from _schema(compose)
    text = tree.path(FILE).read_text()
    for name in re.findall(r"(?<!\$)\$\{?([A-Za-z_]\w*)", re.sub(r"(?m)^\s*#.*$", "", text)):
        yield Finding("compose/interpolation", FILE, f"${name} depends on who calls")
    for name, service in compose.get("services", {}).items():
        for part in (_ports, _hardening, _image, _depends, _references):
            yield from part(tree, compose, name, service)
        if ours(service):
            yield from _ours(tree, compose, name, service)
    yield from _broker(compose.get("services", {}))
    yield from _versions(tree, compose.get("services", {}))


def ours(service):
    return service.get("image", "").split(":")[0].endswith("frontstream")


def settings_of(tree, compose, service):
    """The settings file that a service of ours is given, and where it finds it."""
    for item in service.get("configs", []):
        declared = compose.get("configs", {}).get(item["source"], {})
        if declared.get("file", "").endswith(".toml"):
            return tree.settings(declared["file"]), item["target"]
    return {}, None


def _found(rule, service, text):
    return Finding(rule, f"{FILE}: {service}", text)


def _schema(compose):
    source = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(source.read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for error in validator.iter_errors(compose):
        where = ".".join(str(part) for part in error.absolute_path)
        yield Finding("compose/schema", FILE, f"{where}: {error.message[:200]}")


def published(service):
    """(host address, container port) of each published port."""
    for port in service.get("ports", []):
        if isinstance(port, dict):
            yield port.get("host_ip", ""), int(port["target"])
        else:
            parts = str(port).split("/")[0].split(":")
            yield parts[0] if len(parts) == 3 else "", int(parts[-1])


def _ports(tree, compose, name, service):
    for host, port in published(service):
        if host != "127.0.0.1":
            yield _found("compose/loopback", name, f"port {port} is published on every address of the host")


def _hardening(tree, compose, name, service):
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged"):
        yield _found("compose/hardening", name, "keeps capabilities")
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield _found("compose/hardening", name, "may gain privileges")
    if ours(service) and not (service.get("read_only") and service.get("tmpfs")):
        yield _found("compose/hardening", name, "has a root file system that can be written to")
    if str(service.get("user", "1")).split(":")[0] in ("0", "root"):
        yield _found("compose/hardening", name, "runs as root")


def _image(tree, compose, name, service):
    image, _, tag = service.get("image", "").partition(":")
    if not re.match(r"\d+\.\d+\.\d+", tag):
        yield _found("compose/image-pinned", name, f"image {image}:{tag or 'latest'} names no version")
    elif ours(service) and tag != tree.cargo()["package"]["version"]:
        yield _found("compose/image-pinned", name, f"{tag} is not the version of Cargo.toml")


def _depends(tree, compose, name, service):
    services = compose.get("services", {})
    depends = service.get("depends_on", {})
    for other, how in depends.items():
        condition = how.get("condition")
        if other not in services:
            yield _found("compose/depends", name, f"waits for {other}, which is no service")
        elif condition == "service_healthy" and "healthcheck" not in services[other]:
            yield _found("compose/depends", name, f"waits for {other} to be healthy, which has no health check")
        elif condition == "service_completed_successfully" and services[other].get("restart", "no") != "no":
            yield _found("compose/depends", name, f"waits for {other} to end, which is restarted")
    if service.get("command", [""])[0] in ("receiver", "processor"):
        if depends.get("topics", {}).get("condition") != "service_completed_successfully":
            yield _found("compose/depends", name, "does not wait for the topics")


def _references(tree, compose, name, service):
    for kind in ("configs", "secrets"):
        for item in service.get(kind, []):
            source = item["source"] if isinstance(item, dict) else item
            declared = compose.get(kind, {}).get(source)
            if declared is None:
                yield _found("compose/reference", name, f"{kind}: {source} is not declared")
            elif not tree.path(declared["file"]).is_file():
                yield _found("compose/reference", name, f"{kind}: there is no file {declared['file']}")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not source.startswith((".", "/")) and source not in compose.get("volumes", {}):
            yield _found("compose/reference", name, f"volume {source} is not declared")


def _ours(tree, compose, name, service):
    settings, _ = settings_of(tree, compose, service)
    services = compose["services"]
    command = service.get("command", [""])
    open_ports = set()
    for section in {"receiver": ("receiver", "admin"), "processor": ("admin",)}.get(command[0], ()):
        port, reachable = listen_port(settings, section)
        open_ports.add(port)
        if not reachable:
            yield _found(
                "compose/port", name, f"{section}.listen is on the container's loopback: no port of it is reached"
            )
    for _, port in published(service):
        if port not in open_ports:
            yield _found("compose/port", name, f"publishes {port}, the settings open {sorted(open_ports)}")
    for port in health_ports(service):
        if port != listen_port(settings, "admin")[0]:
            yield _found("compose/port", name, f"the health check asks port {port}, which is not admin.listen")
    if command[0] == "processor" and seconds(service.get("stop_grace_period", "10s")) <= stop_seconds(settings):
        yield _found("compose/grace", name, f"stop_grace_period is not above {stop_seconds(settings):g} s")
    if command[0] in ("receiver", "processor") and "healthcheck" not in service:
        yield _found("compose/depends", name, "has no health check")
    registry = settings.get("registry", {}).get("url", "")
    if registry:
        host = re.match(r"\w+://([^:/]+)", registry).group(1)
        if host not in services:
            yield _found("compose/address", name, f"registry.url names {host}, which is no service")
    advertised = {address for item in services.values() for address in _advertised(item)}
    for broker in settings.get("kafka", {}).get("brokers", "").split(","):
        if broker not in advertised:
            yield _found("compose/address", name, f"no broker says that it is reached at {broker}")


def _advertised(service):
    listeners = service.get("environment", {}).get("KAFKA_ADVERTISED_LISTENERS", "")
    return [listener.partition("://")[2] for listener in listeners.split(",")]


def health_ports(service):
    for word in service.get("healthcheck", {}).get("test", []):
        yield from (int(port) for port in re.findall(r"/dev/tcp/[^/]+/(\d+)", word))


def _broker(services):
    wanted = {"KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false", "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0"}
    for name, service in services.items():
        if "kafka" not in service.get("image", ""):
            continue
        for key, value in wanted.items():
            if str(service.get("environment", {}).get(key)) != value:
                yield _found("compose/broker", name, f"{key} is not {value}")


def _versions(tree, services):
    """scripts/versions is the one place where versions are pinned; a Compose file cannot read it."""
    pins = tree.path("scripts/versions")
    pinned = dict(re.findall(r"(?m)^(\w+)=(\S+)", pins.read_text())) if pins.exists() else {}
    for name, service in services.items():
        image, _, tag = service.get("image", "").partition(":")
        for part, key in (("kafka", "KAFKA_VERSION"), ("apicurio", "APICURIO_VERSION")):
            if image.startswith(part) or image.endswith(f"/{part}"):
                if tag != pinned.get(key, tag):
                    yield _found("compose/versions", name, f"{image}:{tag}, but scripts/versions says {pinned[key]}")
