"""Whether the Russian texts are whole: every message id has a translation, and the .mo is the .po compiled."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PO = Path("locale/ru/LC_MESSAGES/django.po")


def main() -> int:
    missing = [tool for tool in ("msgfmt", "xgettext", "msgattrib") if not shutil.which(tool)]
    if missing:
        print(f"{', '.join(missing)} not found: install the package gettext")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("apps", "crm2", "config", "locale", "manage.py"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        before = (copy / PO).read_text(encoding="utf-8")
        run = [sys.executable, "manage.py", "makemessages", "-l", "ru", "--no-wrap", "--no-location", "-v", "0"]
        subprocess.run(run, cwd=copy, check=True)
        faults = []
        if _ids(before) != _ids((copy / PO).read_text(encoding="utf-8")):
            faults.append(f"{PO} is old: make messages")
        for flag, what in (("--untranslated", "untranslated"), ("--only-fuzzy", "fuzzy")):
            command = ["msgattrib", flag, "--no-obsolete", ROOT / PO]
            found = subprocess.run(command, capture_output=True, text=True, check=True)
            names = _ids(found.stdout)
            if names:
                faults.append(f"{PO}: {len(names)} {what}, such as {sorted(names)[0]}")
        compiled = copy / "fresh.mo"
        subprocess.run(["msgfmt", "--check-format", "-o", compiled, ROOT / PO], check=True)
        if compiled.read_bytes() != (ROOT / PO).with_suffix(".mo").read_bytes():
            faults.append("django.mo is not the compiled django.po: make messages")
    print("\n".join(faults), end="\n" if faults else "")
    return bool(faults)


def _ids(text: str) -> set[str]:
    """The message ids of a .po, each as its lines from msgid to msgstr."""
    return {
        block[block.index("msgid ") :].split("\nmsgstr")[0]
        for block in text.split("\n\n")
        if "\nmsgid " in f"\n{block}" and 'msgid ""\nmsgstr ""\n"' not in block and not block.lstrip().startswith("#~")
    }


if __name__ == "__main__":
    sys.exit(main())
