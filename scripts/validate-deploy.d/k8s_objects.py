"""Rules on the rendered Kubernetes objects: the schemas, and that what one names another is there."""

import functools
import json
import re
import tomllib

import kubernetes_validate

from tree import Finding

# The oldest version that runs these files (preStop.sleep) and the newest that the schemas know.
VERSIONS = ("1.30", "1.37")
CLUSTER_WIDE = {"Namespace"}

RULES = {
    "k8s/build": "kustomize builds the base and every overlay",
    "k8s/schema": f"every object follows the strict schema of Kubernetes {VERSIONS[0]} and {VERSIONS[1]}",
    "k8s/namespace": "every object is in the namespace that is made here",
    "k8s/selector": "a workload selects exactly its own pods",
    "k8s/service": "a service selects pods, and each of its ports is one that they open",
    "k8s/headless": "a StatefulSet's service exists, is headless and selects its pods",
    "k8s/ingress": "an ingress leads to a service and port that exist, over TLS",
    "k8s/hpa": "an autoscaler's target exists, says no replicas of its own, and asks for what is measured",
    "k8s/pdb": "every long-running workload has a disruption budget that leaves room to move one pod",
    "k8s/policy": "a network policy selects pods that exist, by ports that exist",
    "k8s/policy-deny": "what no policy lists is denied, both ways",
    "k8s/policy-allow": "webhooks, scrapes, DNS, brokers and registry are let through",
    "k8s/account": "a pod's service account exists",
}


def check(tree):
    for kustomization in tree.kustomizations():
        for part in (_schemas, _namespaces, _selectors, _services, _ingresses, _autoscalers, _budgets, _policies):
            for rule, text in part(kustomization):
                yield Finding(rule, kustomization.name, text)


def label(item):
    return f"{item['kind']}/{item['metadata']['name']}"


def matches(selector, labels):
    """Whether a label selector (matchLabels and matchExpressions with In) takes these labels; {} takes all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        if rule["operator"] != "In":
            raise NotImplementedError(f"selector operator {rule['operator']}: teach it to validate-deploy")
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True


def pod_labels(workload):
    return workload["spec"]["template"]["metadata"].get("labels", {})


def container_ports(workload):
    for container in workload["spec"]["template"]["spec"]["containers"]:
        for port in container.get("ports", []):
            yield port.get("name"), port["containerPort"]


def settings_of(kustomization):
    """The settings file of a build, from its ConfigMap."""
    for item in kustomization.of("ConfigMap"):
        if "frontstream.toml" in item.get("data", {}):
            return tomllib.loads(item["data"]["frontstream.toml"])
    return {}


def _schemas(kustomization):
    for item in kustomization.objects:
        for version in VERSIONS:
            for text in _judge(json.dumps(item), version):
                yield "k8s/schema", f"{label(item)} ({version}) {text}"


@functools.cache
def _judge(text, version):
    """What the schema says of one object; remembered, since most objects are the same in every build."""
    try:
        kubernetes_validate.validate(json.loads(text), version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(str(part) for part in error.path)}: {error.message[:200]}"]
    except (kubernetes_validate.SchemaNotFoundError, kubernetes_validate.InvalidSchemaError) as error:
        return [str(error)]
    return []


def _namespaces(kustomization):
    made = [item["metadata"]["name"] for item in kustomization.of("Namespace")]
    for item in kustomization.objects:
        if item["kind"] not in CLUSTER_WIDE and item["metadata"].get("namespace") not in made:
            yield "k8s/namespace", f"{label(item)} is in {item['metadata'].get('namespace')}, made are {made}"


def _selectors(kustomization):
    accounts = {item["metadata"]["name"] for item in kustomization.of("ServiceAccount")}
    for item in kustomization.workloads():
        account = item["spec"]["template"]["spec"].get("serviceAccountName")
        if account not in accounts:
            yield "k8s/account", f"{label(item)} runs as {account}, which is not made"
        if item["kind"] == "Job":
            continue
        selector = item["spec"].get("selector", {})
        if not selector.get("matchLabels"):
            yield "k8s/selector", f"{label(item)} selects nothing by label"
        elif not matches(selector, pod_labels(item)):
            yield "k8s/selector", f"{label(item)} does not select its own pods"
        for other in kustomization.workloads():
            if other is not item and matches(selector, pod_labels(other)):
                yield "k8s/selector", f"{label(item)} selects the pods of {label(other)}"


def _services(kustomization):
    for item in kustomization.of("Service"):
        selector = item["spec"].get("selector") or {}
        targets = [
            other
            for other in kustomization.workloads()
            if selector and matches({"matchLabels": selector}, pod_labels(other))
        ]
        if len(targets) != 1:
            yield "k8s/service", f"{label(item)} selects the pods of {len(targets)} workloads"
            continue
        open_ports = list(container_ports(targets[0]))
        for port in item["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            if not any(target in names for names in open_ports):
                yield "k8s/service", f"{label(item)} leads to port {target}, which {label(targets[0])} does not open"
    for item in kustomization.of("StatefulSet"):
        service = kustomization.named("Service", item["spec"].get("serviceName"))
        if service is None or service["spec"].get("clusterIP") != "None":
            yield "k8s/headless", f"{label(item)}: {item['spec'].get('serviceName')} is no headless service"
        elif not matches({"matchLabels": service["spec"]["selector"]}, pod_labels(item)):
            yield "k8s/headless", f"{label(item)}: its service does not select its pods"


def _ingresses(kustomization):
    for item in kustomization.of("Ingress"):
        covered = {host for entry in item["spec"].get("tls", []) for host in entry.get("hosts", [])}
        for rule in item["spec"].get("rules", []):
            if rule.get("host") not in covered:
                yield "k8s/ingress", f"{label(item)}: {rule.get('host')} has no TLS"
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                service = kustomization.named("Service", backend["name"])
                ports = service["spec"]["ports"] if service else []
                wanted = set(backend["port"].values())
                if not any(wanted & {port.get("name"), port["port"]} for port in ports):
                    yield "k8s/ingress", f"{label(item)} leads to {backend['name']} {wanted}, which is not there"


def _autoscalers(kustomization):
    for item in kustomization.of("HorizontalPodAutoscaler"):
        reference = item["spec"]["scaleTargetRef"]
        target = kustomization.named(reference["kind"], reference["name"])
        if target is None or target["apiVersion"] != reference["apiVersion"]:
            yield "k8s/hpa", f"{label(item)}: {reference['kind']}/{reference['name']} is not made"
            continue
        if "replicas" in target["spec"]:
            yield "k8s/hpa", f"{label(item)}: {label(target)} says its own replicas, each apply undoes the scaling"
        for metric in item["spec"].get("metrics", []):
            name = metric.get("resource", {}).get("name")
            for container in target["spec"]["template"]["spec"]["containers"]:
                if name not in container.get("resources", {}).get("requests", {}):
                    yield (
                        "k8s/hpa",
                        f"{label(item)}: {container['name']} requests no {name}, so there is no utilisation of it",
                    )


def _budgets(kustomization):
    budgets = kustomization.of("PodDisruptionBudget")
    floors = {
        item["spec"]["scaleTargetRef"]["name"]: item["spec"].get("minReplicas", 1)
        for item in kustomization.of("HorizontalPodAutoscaler")
    }
    for item in budgets:
        targets = [
            other for other in kustomization.workloads() if matches(item["spec"].get("selector", {}), pod_labels(other))
        ]
        if len(targets) != 1:
            yield "k8s/pdb", f"{label(item)} covers the pods of {len(targets)} workloads"
            continue
        name = targets[0]["metadata"]["name"]
        replicas = floors.get(name, targets[0]["spec"].get("replicas", 1))
        if item["spec"].get("maxUnavailable") == 0 or item["spec"].get("minAvailable", 0) in (replicas, "100%"):
            yield "k8s/pdb", f"{label(item)} lets no pod of {name} move: no node can be drained"
    for item in kustomization.of("Deployment", "StatefulSet"):
        if not any(matches(budget["spec"].get("selector", {}), pod_labels(item)) for budget in budgets):
            yield "k8s/pdb", f"{label(item)} has no disruption budget"


def _policies(kustomization):
    policies = kustomization.of("NetworkPolicy")
    workloads = kustomization.workloads()
    denied = set()
    for item in policies:
        spec = item["spec"]
        covered = [other for other in workloads if matches(spec.get("podSelector", {}), pod_labels(other))]
        if not covered:
            yield "k8s/policy", f"{label(item)} selects no pod"
        if not spec.get("podSelector") and not spec.get("ingress") and not spec.get("egress"):
            denied |= set(spec.get("policyTypes", []))
        for rule in spec.get("ingress") or []:
            for port in rule.get("ports", []):
                for other in covered:
                    if not any(port["port"] in names for names in container_ports(other)):
                        yield (
                            "k8s/policy",
                            f"{label(item)} lets in port {port['port']}, which {label(other)} does not open",
                        )
    if denied != {"Ingress", "Egress"}:
        yield "k8s/policy-deny", f"denied by default is {sorted(denied)}, not both ways"
    settings = settings_of(kustomization)
    for item in workloads:
        yield from _let_in(item, policies, settings)
        yield from _let_out(item, policies, settings)


def _allowed(item, policies, direction):
    """Ports that policies let through for a workload's pods. A rule without peers or ports would be everything."""
    for policy in policies:
        if matches(policy["spec"].get("podSelector", {}), pod_labels(item)):
            for rule in policy["spec"].get(direction) or []:
                if not rule.get("to" if direction == "egress" else "from") or not rule.get("ports"):
                    yield "anything"
                yield from (port["port"] for port in rule.get("ports", []))


def _let_in(item, policies, settings):
    allowed = set(_allowed(item, policies, "ingress"))
    if "anything" in allowed:
        yield "k8s/policy-allow", f"{label(item)} is open to any peer or on any port"
    numbers = {number for name, number in container_ports(item) if name in allowed or number in allowed}
    for name, number in container_ports(item):
        if number not in numbers:
            yield "k8s/policy-allow", f"{label(item)}: nobody is let in on port {number} ({name})"


def _let_out(item, policies, settings):
    allowed = set(_allowed(item, policies, "egress"))
    if "anything" in allowed:
        yield "k8s/policy-allow", f"{label(item)} may reach any peer or any port"
    wanted = {53: "DNS"}
    for broker in settings.get("kafka", {}).get("brokers", "").split(","):
        wanted[int(broker.rpartition(":")[2] or 0)] = f"broker {broker}"
    registry = re.match(r"(https?)://[^:/]+(?::(\d+))?", settings.get("registry", {}).get("url", ""))
    if registry:
        wanted[int(registry.group(2) or {"http": 80, "https": 443}[registry.group(1)])] = "registry"
    for port, what in wanted.items():
        if port not in allowed:
            yield "k8s/policy-allow", f"{label(item)} may not reach port {port} ({what})"
