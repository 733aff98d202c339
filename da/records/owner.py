"""Who has a run: a process of some machine, and whether it lives."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

UNKNOWN = "unknown"  # the token of a claim that cannot be read


@dataclass(frozen=True)
class Owner:
    """Who has a run.

    Attributes:
        host: The machine's name, for messages.
        system: The boot and the process table in which `process` has a meaning; "" if unknown.
        process: Its number.
        started: When the process started, as the system counts it.
        token: The name of this claim alone.
    """

    host: str = ""
    system: str = ""
    process: int = 0
    started: str = ""
    token: str = UNKNOWN


def new_owner() -> Owner:
    """This process, with a token of its own."""
    number = os.getpid()
    started = _start_of(number) or ""
    return Owner(platform.node(), _system(), number, started, secrets.token_hex(8))


def still_runs(owner: Owner) -> bool | None:
    """Whether the process lives; None if only its machine could tell."""
    if not owner.system or owner.system != _system():
        return None
    return bool(owner.started) and _start_of(owner.process) == owner.started


def written(owner: Owner) -> bytes:
    """The content of a claim's file: one line, and a line that tells whether it is whole."""
    line = json.dumps(asdict(owner)).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode()


def read_owner(path: Path) -> Owner | None:
    """The owner in a file; None if there is no file. A damaged file has an unknown one."""
    try:
        line, _, digest = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return None
    if digest != hashlib.sha256(line).hexdigest().encode():
        return Owner()
    return Owner(**json.loads(line))


@cache
def _system() -> str:
    """The boot of this system and its table of processes; "" if it does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_of(process: int) -> str | None:
    """When a process started, in ticks since the boot; None if there is none, or it has ended."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a program's name may hold brackets and spaces
    return None if fields[0] in "ZX" else fields[19]
