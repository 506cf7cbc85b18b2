"""Rules on the Dockerfile and its .dockerignore: hadolint's, and those that it does not know."""

import fnmatch
import json
import os
import re
import subprocess
import tempfile
import tomllib

from tree import Finding

BINARY = "/usr/local/bin/frontstream"

RULES = {
    "docker/lint": "hadolint has nothing to say",
    "docker/base-pinned": "every base image is named with a release, never latest",
    "docker/toolchain": "the builder's compiler is that of rust-toolchain.toml",
    "docker/user": "the last stage ends as a numeric user that is not root",
    "docker/entrypoint": "the entry point is the binary itself, in exec form, and the binary is copied there",
    "docker/add": "nothing is fetched or unpacked by ADD",
    "docker/apt": "apt-get installs no recommendations and leaves no lists",
    "docker/locked": "cargo builds from the lock file",
    "docker/features": "the default features are built in, and none that is for development",
    "docker/stubs": "the dependency layer makes a file for each target that the manifest declares",
    "docker/stop": "the image says SIGTERM and carries the OCI labels",
    "docker/ignore": "the build context holds what the build reads, and neither target nor history nor deployment",
}


def check(tree):
    code = tree.dockerfile()
    last = [item for item in code if item.stage == code[-1].stage]
    for part in (_lint, _ignore):
        yield from part(tree)
    for part in (_bases, _runs):
        yield from part(tree, code)
    for part in (_user, _entrypoint, _stop):
        yield from part(last)
    yield from _stubs(tree, code)


def _found(rule, text, line=None):
    return Finding(rule, f"Dockerfile:{line}" if line else "Dockerfile", text)


def _lint(tree):
    command = [os.environ["HADOLINT"], "--no-color", "--format", "json", str(tree.path("Dockerfile"))]
    done = subprocess.run(command, capture_output=True, text=True)
    for item in json.loads(done.stdout or "[]"):
        yield _found("docker/lint", f"{item['code']} {item['message']}", item["line"])
    if done.returncode not in (0, 1):
        yield _found("docker/lint", f"hadolint failed: {done.stderr.strip()}")


def _bases(tree, code):
    froms = " ".join(item.value for item in code if item.keyword == "FROM")
    stages = set(re.findall(r"(?i)\bAS\s+(\S+)", froms))
    for item in code:
        if item.keyword != "FROM":
            continue
        image = item.value.split()[0]
        _, colon, tag = image.partition(":")
        if image not in stages and "@sha256:" not in image and (not colon or not re.search(r"\d|bookworm", tag)):
            yield _found("docker/base-pinned", f"{image} names no release", item.line)
        if image.startswith("rust:"):
            wanted = tomllib.loads(tree.path("rust-toolchain.toml").read_text())["toolchain"]["channel"]
            if not tag.startswith(f"{wanted}-"):
                yield _found("docker/toolchain", f"{image}, but rust-toolchain.toml says {wanted}", item.line)


def _runs(tree, code):
    features = tree.cargo().get("features", {})
    for item in code:
        if item.keyword == "ADD":
            yield _found("docker/add", f"ADD {item.value}", item.line)
        if item.keyword != "RUN":
            continue
        if "apt-get install" in item.value and not (
            "--no-install-recommends" in item.value and "rm -rf /var/lib/apt/lists/*" in item.value
        ):
            yield _found("docker/apt", "needs --no-install-recommends and rm -rf /var/lib/apt/lists/*", item.line)
        for build in re.findall(r"cargo build[^&\n|;]*", item.value):
            if "--locked" not in build or "--release" not in build:
                yield _found("docker/locked", f"{build.strip()} is not --release --locked", item.line)
            named = re.search(r"--features[ =](\S+)", build)
            named = set(named.group(1).split(",")) if named else set()
            wanted = {name for name in features.get("default", []) if "dev" not in name}
            if "--no-default-features" not in build or named != wanted:
                yield _found("docker/features", f"builds {sorted(named)}, default is {sorted(wanted)}", item.line)


def _user(last):
    users = [item for item in last if item.keyword == "USER"]
    if not users:
        yield _found("docker/user", "the last stage runs as root: no USER")
    elif not re.fullmatch(r"[1-9]\d*(:[1-9]\d*)?", users[-1].value):
        yield _found("docker/user", f"USER {users[-1].value} is not a number above 0", users[-1].line)


def _entrypoint(last):
    entries = [item for item in last if item.keyword == "ENTRYPOINT"]
    if len(entries) != 1 or entries[0].value != f'["{BINARY}"]':
        yield _found("docker/entrypoint", f'must be ENTRYPOINT ["{BINARY}"], once')
    if not any(item.keyword == "COPY" and item.value.split()[-1] == BINARY for item in last):
        yield _found("docker/entrypoint", f"nothing is copied to {BINARY}")


def _stop(last):
    if not any(item.keyword == "STOPSIGNAL" and item.value == "SIGTERM" for item in last):
        yield _found("docker/stop", "no STOPSIGNAL SIGTERM")
    labels = " ".join(item.value for item in last if item.keyword == "LABEL")
    for name in ("title", "description", "source", "licenses", "version", "revision"):
        if f"org.opencontainers.image.{name}=" not in labels:
            yield _found("docker/stop", f"no label org.opencontainers.image.{name}")


def _stubs(tree, code):
    """Runs the step that makes the empty targets, without cargo, and looks whether cargo would find each."""
    steps = [
        item.value for item in code if item.keyword == "RUN" and "src/main.rs" in item.value and "mkdir" in item.value
    ]
    if len(steps) != 1:
        yield _found("docker/stubs", "there is not one step that makes the empty targets")
        return
    with tempfile.TemporaryDirectory() as folder:
        manifest = tree.path("Cargo.toml").read_text()
        with open(f"{folder}/Cargo.toml", "w") as copy:
            copy.write(manifest)
        script = "cargo() { :; }\n" + steps[0].replace("\\\n", "\n")
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script.replace("\n &&", " &&").replace("\n  |", " |")],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            yield _found("docker/stubs", f"the step fails: {done.stderr.strip()}")
        cargo = tomllib.loads(manifest)
        wanted = [("src/lib.rs",), ("src/main.rs",)]
        for kind, place in (("bench", "benches"), ("example", "examples"), ("test", "tests")):
            for target in cargo.get(kind, []):
                name = f"{place}/{target['name']}"
                # cargo looks for a target without a path as soon as it reads the manifest.
                if "path" not in target:
                    wanted.append((f"{name}.rs", f"{name}/main.rs"))
        for names in wanted:
            if not any(os.path.exists(f"{folder}/{name}") for name in names):
                yield _found("docker/stubs", f"{names[0]} is declared and not made")


def _ignore(tree):
    lines = [line.strip().rstrip("/") for line in tree.path(".dockerignore").read_text().splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]

    def ignored(path):
        parts = path.split("/")
        ancestors = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        return any(_matches(pattern, name) for pattern in patterns for name in ancestors)

    for name in ("target", ".git", "deploy", "k8s", ".env"):
        if not ignored(name):
            yield Finding("docker/ignore", ".dockerignore", f"{name} goes into the build context")
    read = ["Cargo.toml", "Cargo.lock"]
    for folder in ("src", "schemas", "benches", "tests/data"):
        read += [str(item.relative_to(tree.root)) for item in tree.path(folder).rglob("*") if item.is_file()]
    for name in read:
        if ignored(name):
            yield Finding("docker/ignore", ".dockerignore", f"{name}, which the build reads, is left out")


def _matches(pattern, name):
    """Docker's patterns, as far as they are used here: `**/` at the start, `*` within one part."""
    if pattern.startswith("**/"):
        pattern, name = pattern[3:], name.rsplit("/", 1)[-1]
    return pattern.count("/") == name.count("/") and fnmatch.fnmatchcase(name, pattern)
