"""Your own photographs: a small ImageNet network adapted between the domains of a folder.

    python experiments/folder_mmd.py --data pets --weights squeezenet1_1_imagenet.pt
    python experiments/folder_mmd.py --data pets --source home --target street --loss none mmd mcc

The sub-folders of --data are the domains, and theirs are the classes: pets/home/cat/1.jpg. Classes
and counts are those on the disk. Every pair of domains is a column. The labels of a target judge
the result and nothing else.

The rows of the default are

    probe   logistic regression on frozen features, L2-normalised, C = 10: what to beat
    none    source only
    mmd     aligned by a five-kernel MMD

The recipe is that of office_caltech_mmd.py, which is for some hundred photographs a domain on a
CPU. --help lists the other rows. --source-classes and --target-classes make a partial task or an
open set:

    --target-classes 5                          the target has the first five classes
    --source-classes cat dog                    the other classes of the target are unknown

With unknown classes target_accuracy counts them as one class more. The figure of open sets is in
the same records: `python -m da table runs --experiment folder_mmd --metric target_hos`.
"""

from dataclasses import dataclass

from da.recipes import Cell, FolderFlags, Job, main
from da.recipes.methods import METHODS
from da.recipes.own_benchmark import benchmark_of, describe_folder, folder_check, folder_tasks
from da.recipes.small_backbone import PROBED, SmallBackboneFlags, probed_image_job


@dataclass(frozen=True)
class Config(SmallBackboneFlags, FolderFlags):
    """Adapt a small backbone between the domains of a folder."""


def build(config: Config, cell: Cell) -> Job:
    """One cell."""
    return probed_image_job(config, benchmark_of(config), cell)


if __name__ == "__main__":
    main(
        Config,
        experiment="folder_mmd",
        benchmark=None,
        build=build,
        describe=describe_folder(METHODS),
        rows=PROBED,
        tasks=folder_tasks,
        check=folder_check,
    )
