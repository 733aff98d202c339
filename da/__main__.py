"""The commands of the package: `python -m da COMMAND --help` explains each."""

from __future__ import annotations

import importlib
import sys

# command: module, function, what it does. A module is imported only if its command is called.
COMMANDS = {
    "adapt": ("da.adapt.command", "adapt", "your own data: a report, predictions and a model"),
    "predict": ("da.adapt.predict_command", "predict", "use a model that adapt has written"),
    "download": ("da.data.download_command", "main", "fetch and verify a benchmark"),
    "shift": ("da.adapt.shift_command", "main", "have two sets of your own data shifted, and how?"),
    "table": ("da.records.commands", "table", "the table of an experiment from its runs"),
    "rank": ("da.records.commands", "rank", "how well transferability scores rank candidates"),
    "pack": ("da.records.commands", "pack_runs", "pack finished runs into files for git"),
    "unpack": ("da.records.commands", "unpack_runs", "write packed runs back into folders"),
}
EXAMPLES = """\
for example
  python experiments/digits_mmd.py              train, and print the table (no data needed)
  python -m da table runs                       the same table again, from the folder runs
  python -m da shift january.csv june.csv       have your own data shifted, and how?
  python -m da download office31 --data-root data
python -m da COMMAND --help shows the flags and an example of each."""


def main() -> None:
    """Call the command that the first argument names."""
    lines = [f"  {name:10}{says}" for name, (_, _, says) in COMMANDS.items()]
    usage = "\n".join(["usage: python -m da COMMAND [--help]", "", *lines, "", EXAMPLES])
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage)
        return
    if name not in COMMANDS:
        from da.records.command_line import not_a_choice

        sys.exit(f"error: {not_a_choice(name, 'the command', list(COMMANDS))}")
    module, function, _ = COMMANDS[name]
    from da.records.commands import run

    run(getattr(importlib.import_module(module), function), arguments)


if __name__ == "__main__":
    main()
