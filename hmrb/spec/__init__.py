"""An experiment as one frozen object. A YAML spec lists only what differs from the defaults here, the baseline."""

from hmrb.spec.data import DataSpec, LabelKind, Op, auto_workers
from hmrb.spec.evals import CheckpointSpec, EvalSpec, Expected, Published
from hmrb.spec.experiment import ADDED, Experiment
from hmrb.spec.fields import EvalPrecision, Positive, Precision, Rate, Share, SpecError, SpecModel, Weight
from hmrb.spec.model import (
    STUDY_LOSSES,
    AdversarySpec,
    AnyHeadSpec,
    BoxInput,
    DecoderHeadSpec,
    HeadSpec,
    LossTerm,
    ModelSpec,
    PartAttentionHeadSpec,
    Rotation,
    TokenHeadSpec,
)
from hmrb.spec.optim import OptimSpec, SpeedSpec
from hmrb.spec.reading import dump_experiment, load_experiment, parse_experiment

__all__ = [
    "ADDED",
    "STUDY_LOSSES",
    "AdversarySpec",
    "AnyHeadSpec",
    "BoxInput",
    "CheckpointSpec",
    "DataSpec",
    "DecoderHeadSpec",
    "EvalPrecision",
    "EvalSpec",
    "Expected",
    "Experiment",
    "HeadSpec",
    "LabelKind",
    "LossTerm",
    "ModelSpec",
    "Op",
    "OptimSpec",
    "PartAttentionHeadSpec",
    "Positive",
    "Precision",
    "Published",
    "Rate",
    "Rotation",
    "Share",
    "SpecError",
    "SpecModel",
    "SpeedSpec",
    "TokenHeadSpec",
    "Weight",
    "auto_workers",
    "dump_experiment",
    "load_experiment",
    "parse_experiment",
]
