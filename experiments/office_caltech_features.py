"""Office-Caltech10 on the features of a frozen ImageNet network: every kind of method, on a CPU.

    python experiments/office_caltech_features.py --data-root DATA --weights lite0.pt
    python experiments/office_caltech_features.py --data-root DATA --weights lite0.pt \\
        --loss none mmd cdan_e mcc --trials 8

The rows and the recipe are those of office31_features.py, unchanged. There are 12 tasks. The table
is in docs/results/office_caltech_features.md.
"""

from dataclasses import dataclass

from da.data import OFFICE_CALTECH10
from da.recipes.feature_tables import FeatureFlags, features_main


@dataclass(frozen=True)
class Config(FeatureFlags):
    """Adapt a head on frozen features between the domains of Office-Caltech10."""


if __name__ == "__main__":
    features_main(Config, experiment="office_caltech_features", benchmark=OFFICE_CALTECH10)
