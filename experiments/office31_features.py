"""Office-31 on the features of a frozen ImageNet network: every kind of method, on a CPU.

    python experiments/office31_features.py --data-root DATA --weights lite0.pt
    python experiments/office31_features.py --data-root DATA --weights lite0.pt \\
        --loss none mmd cdan_e mcc --trials 8
    python experiments/office31_features.py --data-root DATA --backbone open_clip \\
        --weights FOLDER/open_clip_model.safetensors --loss zero_shot nn logistic none mcc

The photographs go through EfficientNet-Lite0 once; the features are kept under $DA_CACHE. The rows:

    nn, logistic       1-NN and a logistic regression on the source, on rows of norm 1
    zero_shot          the class whose sentence is nearest; with a network of open_clip alone
    coral_map, sa ...  adapters without a network, each below the same logistic regression
    none               DAN's bottleneck (256 units, ReLU, dropout 0.5) and a linear classifier
    all others         the same, aligned by the method

Rate and steps were chosen by the cross-entropy of row none on held-out source photographs, see
docs/results/office31_features.md, which has the table and says what was seen of the target before.
"""

from dataclasses import dataclass

from da.data import OFFICE31
from da.recipes.feature_tables import FeatureFlags, features_main


@dataclass(frozen=True)
class Config(FeatureFlags):
    """Adapt a head on frozen features between the domains of Office-31."""


if __name__ == "__main__":
    features_main(Config, experiment="office31_features", benchmark=OFFICE31)
