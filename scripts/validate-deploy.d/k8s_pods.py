"""Rules on the pods of the rendered objects: what runs, as whom, with what, and how it is asked and stopped."""

import yaml

from k8s_objects import container_ports, label, settings_of
from tree import Finding, listen_port, stop_seconds

# Resident memory at 2,000 events a second that the product promises, in MiB: a limit below it is an outage.
MEMORY_TARGET_MIB = {"receiver": 64, "processor": 128}
SUFFIXES = {"Ki": 1 / 1024, "Mi": 1, "Gi": 1024}
PROBES = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}

RULES = {
    "k8s/image": "the image is of the version of Cargo.toml",
    "k8s/role": "a container runs frontstream's own entry point, a role by its arguments",
    "k8s/probe": "start, life and readiness are asked on the admin port, at the right path",
    "k8s/listen": "the ports that a pod says it opens are those that its settings open to others",
    "k8s/scrape": "the scrape annotations name the admin port",
    "k8s/grace": "a stop gets more time than preStop and the drain take",
    "k8s/instance": "a processor's instance id is its pod's name, in a StatefulSet whose pods start in parallel",
    "k8s/security": "pods meet the restricted standard, with a read-only root and no token",
    "k8s/resources": "requests and a memory limit above the memory target",
    "k8s/mount": "what is mounted is declared, and its ConfigMap or Secret has the key",
}


def check(tree):
    version = tree.cargo()["package"]["version"]
    secrets = {
        item["metadata"]["name"]: item for item in yaml.safe_load_all(tree.path("k8s/secret.example.yaml").read_text())
    }
    for kustomization in tree.kustomizations():
        settings = settings_of(kustomization)
        for item in kustomization.workloads():
            for rule, text in _workload(item, kustomization, settings, secrets, version):
                yield Finding(rule, f"{kustomization.name}: {label(item)}", text)


def _workload(item, kustomization, settings, secrets, version):
    pod = item["spec"]["template"]["spec"]
    yield from _account(pod)
    for container in pod["containers"] + pod.get("initContainers", []):
        role = (container.get("args") or [""])[0]
        if container["image"].rpartition(":")[2] != version:
            yield "k8s/image", f"{container['image']} is not version {version}"
        if "command" in container or role not in ("receiver", "processor", "topics"):
            yield "k8s/role", f"runs {container.get('command', [])} {container.get('args', [])}"
        yield from _security(pod, container)
        yield from _resources(container, role)
        yield from _mounts(pod, container, kustomization, secrets)
        if role in ("receiver", "processor"):
            yield from _probes(container, settings)
            yield from _listens(item, role, settings)
            yield from _grace(pod, container, role, settings)
        if role == "processor":
            yield from _instance(item, container)


def _account(pod):
    if pod.get("automountServiceAccountToken") is not False:
        yield "k8s/security", "mounts a token of the Kubernetes API"
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield "k8s/security", f"shares the node: {name}"


def _security(pod, container):
    both = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
    wanted = {
        "runAsNonRoot": both.get("runAsNonRoot") is True,
        "runAsUser": isinstance(both.get("runAsUser"), int) and both["runAsUser"] > 0,
        "seccompProfile": both.get("seccompProfile", {}).get("type") == "RuntimeDefault",
        "allowPrivilegeEscalation": both.get("allowPrivilegeEscalation") is False,
        "readOnlyRootFilesystem": both.get("readOnlyRootFilesystem") is True,
        "capabilities": both.get("capabilities") == {"drop": ["ALL"]},
        "privileged": not both.get("privileged"),
    }
    for name, right in wanted.items():
        if not right:
            yield "k8s/security", f"{container['name']}: {name} is {both.get(name)}"


def _mebibytes(text):
    text = str(text)
    if text[-2:] not in SUFFIXES:
        raise NotImplementedError(f"memory {text}: teach its unit to validate-deploy")
    return float(text[:-2]) * SUFFIXES[text[-2:]]


def _resources(container, role):
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    if "cpu" not in requests or "memory" not in requests or "memory" not in limits:
        yield "k8s/resources", f"{container['name']} says no cpu and memory request or no memory limit"
    elif _mebibytes(limits["memory"]) <= MEMORY_TARGET_MIB.get(role, 0) or _mebibytes(limits["memory"]) < _mebibytes(
        requests["memory"]
    ):
        yield (
            "k8s/resources",
            f"{container['name']}: memory limit {limits['memory']} is not above the target or below the request",
        )


def _mounts(pod, container, kustomization, secrets):
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        volume = volumes.get(mount["name"])
        if volume is None:
            yield "k8s/mount", f"mounts {mount['name']}, which is not declared"
            continue
        names = list(_volume_files(volume, kustomization, secrets))
        if not names:
            yield "k8s/mount", f"volume {mount['name']}: its ConfigMap or Secret is not made, or is empty"
        if mount.get("subPath", names[0] if names else None) not in names + [None]:
            yield "k8s/mount", f"mounts {mount['subPath']} of {mount['name']}, which has {names}"
        for item in volume.get("configMap", volume.get("secret", {})).get("items", []):
            if item["path"] not in names:
                yield "k8s/mount", f"volume {mount['name']} takes key {item['key']}, which is not there"
    for source in container.get("envFrom", []):
        name = source.get("secretRef", source.get("configMapRef", {})).get("name")
        if name not in secrets and kustomization.named("ConfigMap", name) is None:
            yield "k8s/mount", f"takes its environment from {name}, which is not there"
    for variable in container.get("env", []):
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        if reference and reference["key"] not in secrets.get(reference["name"], {}).get("stringData", {}):
            yield "k8s/mount", f"{variable['name']}: key {reference['key']} of {reference['name']} is not there"


def _volume_files(volume, kustomization, secrets):
    if "configMap" in volume:
        item, source = kustomization.named("ConfigMap", volume["configMap"]["name"]), volume["configMap"]
        keys = set((item or {}).get("data", {}))
    elif "secret" in volume:
        item, source = secrets.get(volume["secret"]["secretName"]), volume["secret"]
        keys = set((item or {}).get("stringData", {}))
    else:
        yield "."
        return
    if "items" in source:
        yield from (entry["path"] for entry in source["items"] if entry["key"] in keys)
    else:
        yield from keys


def mounted_files(pod, container, kustomization, secrets):
    """Every file that a container finds in its ConfigMap and Secret volumes, by full path."""
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for mount in container.get("volumeMounts", []):
        if mount["name"] in volumes:
            for name in _volume_files(volumes[mount["name"]], kustomization, secrets):
                yield mount["mountPath"] if "subPath" in mount else f"{mount['mountPath']}/{name}"


def _probes(container, settings):
    admin, _ = listen_port(settings, "admin")
    numbers = {port.get("name"): port["containerPort"] for port in container.get("ports", [])}
    for probe, path in PROBES.items():
        http = container.get(probe, {}).get("httpGet")
        if not http:
            yield "k8s/probe", f"{container['name']} has no {probe} over HTTP"
        elif http["path"] != path or numbers.get(http["port"], http["port"]) != admin:
            yield "k8s/probe", f"{probe} asks {http['path']} on {http['port']}, not {path} on admin.listen ({admin})"


def _listens(item, role, settings):
    opened = {number for _, number in container_ports(item)}
    wanted = set()
    for section in ("admin", "receiver") if role == "receiver" else ("admin",):
        port, reachable = listen_port(settings, section)
        wanted.add(port)
        if not reachable:
            yield "k8s/listen", f"{section}.listen is on the pod's loopback, where no probe and no service reaches it"
    if opened != wanted:
        yield "k8s/listen", f"says it opens {sorted(opened)}, the settings open {sorted(wanted)}"
    annotations = item["spec"]["template"]["metadata"].get("annotations", {})
    if annotations.get("prometheus.io/port") != str(listen_port(settings, "admin")[0]):
        yield "k8s/scrape", f"annotation prometheus.io/port is {annotations.get('prometheus.io/port')}"


def _grace(pod, container, role, settings):
    grace = pod.get("terminationGracePeriodSeconds", 30)
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    # The receiver's own stop: a slow body and the time budget of the answer, by their defaults, with room to flush.
    needed = sleep + (stop_seconds(settings) if role == "processor" else 20)
    if grace <= needed:
        yield "k8s/grace", f"terminationGracePeriodSeconds {grace} is not above {needed:g} (preStop {sleep})"
    if role == "receiver" and sleep == 0:
        yield "k8s/grace", "no preStop sleep: connections are refused until the endpoint's removal is known everywhere"


def _instance(item, container):
    variables = {variable["name"]: variable for variable in container.get("env", [])}
    variable = variables.get("FRONTSTREAM_PROCESSOR_INSTANCE_ID", {})
    if variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") != "metadata.name":
        yield "k8s/instance", "FRONTSTREAM_PROCESSOR_INSTANCE_ID is not the pod's name: two pods would fence each other"
    if item["kind"] != "StatefulSet" or item["spec"].get("podManagementPolicy") != "Parallel":
        yield "k8s/instance", "is not a StatefulSet with podManagementPolicy Parallel"
