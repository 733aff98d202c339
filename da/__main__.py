"""The commands of the package: `python -m da COMMAND --help` explains each."""

from __future__ import annotations

import importlib
import sys

# command: module, function, what it does. A module is imported only if its command is called.
COMMANDS = {
    "table": ("da.records.commands", "table", "the table of an experiment from its runs"),
    "rank": ("da.records.commands", "rank", "how well transferability scores rank candidates"),
    "pack": ("da.records.commands", "pack_runs", "pack finished runs into files for git"),
    "unpack": ("da.records.commands", "unpack_runs", "write packed runs back into folders"),
    "download": ("da.data.download", "main", "fetch and verify a benchmark"),
}


def main() -> None:
    """Call the command that the first argument names."""
    lines = [f"  {name:10}{says}" for name, (_, _, says) in COMMANDS.items()]
    usage = "\n".join(["usage: python -m da COMMAND [--help]", "", *lines])
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage)
        return
    if name not in COMMANDS:
        sys.exit(f"error: command must be one of {', '.join(COMMANDS)}; got {name!r}\n\n{usage}")
    module, function, _ = COMMANDS[name]
    from da.records.commands import run

    run(getattr(importlib.import_module(module), function), arguments)


if __name__ == "__main__":
    main()
