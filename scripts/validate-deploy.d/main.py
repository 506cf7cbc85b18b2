"""scripts/validate-deploy: the arguments, and what is printed."""

import argparse
import os
import pathlib
import shlex
import sys
import time

import compose_checks
import docker_checks
import k8s_objects
import k8s_pods
import settings_checks
from tree import Damaged, Finding, Tree

ROOT = pathlib.Path(__file__).resolve().parents[2]
AREAS = {
    "docker": docker_checks,
    "compose": compose_checks,
    "k8s": k8s_objects,
    "pods": k8s_pods,
    "settings": settings_checks,
}
SHAPE = "files/shape"
RULES = {rule: text for area in AREAS.values() for rule, text in area.RULES.items()}
RULES[SHAPE] = "what the rules read of a file is there"


def findings(tree, areas=tuple(AREAS)):
    """What is wrong, each once, in the order found. A file that cannot be read ends its area."""
    found = {}
    for area in areas:
        try:
            for finding in AREAS[area].check(tree):
                found.setdefault(finding)
        except Damaged as damage:
            found.setdefault(Finding(damage.rule, damage.where, damage.text))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OSError) as error:
            # A part is missing or of another shape, which mostly a schema has said above; the area ends here.
            found.setdefault(Finding(SHAPE, area, f"cannot be judged further: {type(error).__name__} {error}"))
    unknown = {finding.rule for finding in found} - set(RULES)
    assert not unknown, f"rules without a sentence: {unknown}"
    return list(found)


def main():
    parser = argparse.ArgumentParser(
        prog="validate-deploy",
        description="Checks Dockerfile, docker-compose.yml and k8s/ statically: schemas, linter, and each other.",
        epilog="Exit codes: 0 nothing found, 1 something found, 2 bad usage, 3 the tools cannot be installed.",
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--commands",
        action="store_true",
        help="print every frontstream command line of the files, its arguments, one a line",
    )
    only.add_argument(
        "--configs", action="store_true", help="print the path of every frontstream.toml that they use, one a line"
    )
    only.add_argument("--rules", action="store_true", help="print the rules")
    only.add_argument(
        "--self-test",
        action="store_true",
        help="damage a copy in every way that a rule is for, and demand that each is found",
    )
    arguments = parser.parse_args()
    tree = Tree(ROOT)
    if arguments.commands:
        lines = dict.fromkeys(shlex.join(words) for words in settings_checks.command_lines(tree))
        print("\n".join(lines))
    elif arguments.configs:
        print("\n".join(tree.settings_files()))
    elif arguments.rules:
        print("\n".join(f"{rule:22}{text}" for rule, text in RULES.items()))
    elif arguments.self_test:
        import self_test

        return self_test.run(ROOT)
    else:
        return report(tree)
    return 0


def report(tree):
    start = time.monotonic()
    found = findings(tree)
    for finding in found:
        print(finding, file=sys.stderr)
    objects = (
        sum(len(item.objects) for item in tree.kustomizations())
        if not any(item.rule == "k8s/build" for item in found)
        else 0
    )
    took = time.monotonic() - start
    print(f"validate-deploy: {len(RULES)} rules, {objects} Kubernetes objects, {len(found)} findings, {took:.1f} s")
    return 1 if found else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
