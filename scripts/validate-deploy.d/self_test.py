"""Proves the validator: nothing is found in the files as they are, each planted damage is found by the rule that is
for it, no rule is without a damage, and the health checks of docker-compose.yml tell ready from not ready."""

import http.server
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time

import main
from damages import DAMAGES
from tree import Tree

COPIED = (
    "Dockerfile",
    ".dockerignore",
    "docker-compose.yml",
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "src",
    "deploy",
    "docs",
    "k8s",
)


def run(root):
    start, wrong = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="validate-deploy-") as folder:
        copy = pathlib.Path(folder)
        for name in COPIED:
            source = root / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        # A declared bench, so that the rule on the dependency layer has something to miss.
        with open(copy / "Cargo.toml", "a") as manifest:
            manifest.write('\n[[bench]]\nname = "self_test"\nharness = false\n')
        wrong += [f"undamaged, and yet: {finding}" for finding in main.findings(Tree(copy))]
        for damage in DAMAGES:
            wrong += _plant(copy, *damage)
    wrong += [f"{rule}: no damage is for it" for rule in set(main.RULES) - {damage[0] for damage in DAMAGES}]
    checks = 0
    for name, service in Tree(root).compose()["services"].items():
        command = service.get("healthcheck", {}).get("test", [])
        if "bash" in command:
            wrong += [f"health check of {name}: {text}" for text in _health(command[1:])]
            checks += 1
    wrong += [] if checks else ["no health check was tried"]
    for text in wrong:
        print(text)
    took = time.monotonic() - start
    print(
        f"validate-deploy: {len(DAMAGES)} damages, {len(main.RULES)} rules, {checks} health checks, "
        f"{len(wrong)} wrong, {took:.1f} s"
    )
    return 1 if wrong else 0


def _plant(copy, rule, name, old, new):
    path = copy / name
    before = path.read_text() if path.exists() else None
    if old is not None and old not in before:
        return [f"{rule}: {name} no longer holds {old!r}, so the damage is none"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(new if old is None else before.replace(old, new, 1))
    path.chmod(0o755)
    try:
        areas = [area for area, module in main.AREAS.items() if rule in module.RULES] or main.AREAS
        # What is wrong in the base is found in the base: building the overlays too would only take twice as long.
        found = main.findings(Tree(copy, "none" if name.startswith("k8s/base/") else "*"), areas)
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_text(before)
    if any(finding.rule == rule for finding in found):
        return []
    return [f"{rule}: {new!r} in {name} was not found; found instead: {[str(finding) for finding in found]}"]


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.path in ("/readyz", "/health/ready")
        self.send_response(self.server.status if right else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def _health(command):
    """Runs a health check against a server that says yes, one that says no, and none."""
    server = http.server.HTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    # `$$` is how Compose writes a `$`; the port is that of the container, where nothing else listens.
    words = [
        re.sub(r"/dev/tcp/127\.0\.0\.1/\d+", f"/dev/tcp/127.0.0.1/{server.server_port}", word.replace("$$", "$"))
        for word in command
    ]

    def healthy():
        return subprocess.run(words, capture_output=True, timeout=10, env={"PATH": os.environ["PATH"]}).returncode == 0

    for server.status, wanted in ((200, True), (503, False)):
        if healthy() != wanted:
            yield f"answers {not wanted} to status {server.status}"
    server.shutdown()
    server.server_close()
    if healthy():
        yield "is healthy although nothing listens"
