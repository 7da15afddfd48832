"""Whether requirements*.txt pin, with hashes, everything that requirements*.in ask for. Asks no index."""

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==([^ ;\\]+)", re.MULTILINE)


def main() -> int:
    faults = []
    pinned: dict[str, str] = {}
    for name in ("requirements", "requirements-local", "requirements-dev"):
        text = (ROOT / f"{name}.txt").read_text()
        here = {canonicalize_name(package): version for package, version in PIN.findall(text)}
        for package, version in here.items():
            if pinned.get(package, version) != version:
                faults.append(f"{name}.txt: {package} has two versions")
        pinned |= here
        for block in re.split(r"\n(?=[A-Za-z0-9])", text):
            if PIN.match(block) and "--hash=sha256:" not in block:
                faults.append(f"{name}.txt: no hash for {block.split()[0]}")
        for line in (ROOT / f"{name}.in").read_text().splitlines():
            if not line or line.startswith(("#", "-")):
                continue
            wanted = Requirement(line)
            version = pinned.get(canonicalize_name(wanted.name))
            if version is None or not wanted.specifier.contains(version):
                faults.append(f"{name}.txt: {line} is not met (make lock)")
    print("\n".join(faults), end="\n" if faults else "")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
