"""Makes the tables that `python -m da table` does not make: of speed, of facts, of what is reached.

    python docs/make_tables.py
    python docs/make_tables.py --check

Such a table stands between `<!-- made: NAME -->` and `<!-- /made -->` in a page of docs/. It is
made from experiments/records alone. With --check nothing is written, and the exit status is 1 if a
table differs from the records.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable

from made import (
    own_data,
    practice,
    reliability,
    runs,
    source_free,
    speed,
    streams,
    studies,
    two_sample,
)
from made.csv_tables import ROOT

MARKED = re.compile(r"(<!-- made: (\S+) -->\n)(.*?)(<!-- /made -->)", flags=re.DOTALL)

MAKERS: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        speed.mmd_cpu,
        speed.mmd_memory,
        speed.mmd_cuda,
        speed.mmd_cuda_errors,
        speed.collapse,
        speed.resnet50_step,
        speed.shallow,
        speed.shallow_size,
        speed.step_costs,
        speed.stacked,
        studies.batch_statistics,
        studies.selection_study,
        studies.selection_study_office31,
        studies.selection_study_office_caltech,
        studies.selection_study_partial,
        studies.accuracy_study,
        studies.accuracy_study_office31,
        studies.accuracy_study_office_caltech,
        own_data.own_data,
        own_data.own_data_further,
        own_data.own_data_means,
        own_data.own_data_spectra,
        two_sample.two_sample_power,
        two_sample.two_sample_size,
        two_sample.two_sample_level,
        two_sample.two_sample_peers,
        two_sample.fuse_cost,
        practice.corn_spectra,
        practice.prediction_sets,
        practice.fit_checks,
        reliability.survival,
        reliability.survival_damage,
        reliability.survival_kinds,
        reliability.wandb_seconds,
        reliability.endurance,
        runs.frozen_and_adapted,
        runs.digits_instance_samples,
        runs.office_caltech_instance_samples,
        runs.digits_labelshift_errors,
        runs.source_free_online,
        source_free.source_free_same_domain,
        source_free.source_free_shift,
        streams.digits_stream_alarm,
        streams.digits_stream_guard,
        streams.office31_stream_alarm,
        streams.office31_stream_guard,
        runs.reached,
    )
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    check = parser.parse_args().check
    stale = []
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        made = MARKED.sub(lambda m: f"{m[1]}\n{MAKERS[m[2]]()}\n{m[4]}", text)
        if made != text:
            stale.append(str(page.relative_to(ROOT)))
            if not check:
                page.write_text(made, encoding="utf-8")
    if check and stale:
        sys.exit(f"error: stale tables in {', '.join(stale)}; run python docs/make_tables.py")
    print("\n".join(stale) or "every table is as its records are")


if __name__ == "__main__":
    main()
