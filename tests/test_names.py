"""The names that a spec is checked by, before torch is imported, are the names of the code's tables."""

from hmrb import names
from hmrb.evaluation.metric_table import METRIC_TABLE
from hmrb.evaluation.metrics import METRICS
from hmrb.models.backbones import BACKBONES
from hmrb.models.heads import HEADS
from hmrb.models.hmr import MODELS
from hmrb.training.loss_terms import LOSSES


def test_names_are_those_of_the_tables() -> None:
    assert tuple(MODELS) == tuple(names.METHODS)
    assert tuple(HEADS) == names.HEADS
    assert tuple(LOSSES) == names.LOSSES
    assert tuple(BACKBONES) == names.BACKBONES
    assert set(names.BACKBONE_ALIASES.values()) <= set(BACKBONES)
    assert tuple(METRIC_TABLE) == tuple(METRICS)
