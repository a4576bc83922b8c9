"""The adversarial prior: a discriminator that learns to tell predicted bodies from real ones (HMR, CVPR 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hmrb.batch import BodyParams, Prediction
from hmrb.bodykind import kind_of
from hmrb.data.labelled_bodies import RealBodies, bodiless
from hmrb.data.loader import DrawDataset, mixture, stream_seed
from hmrb.data.shard import Shard, open_shard
from hmrb.models.discriminator import Discriminator
from hmrb.parallel.world import World
from hmrb.spec import AdversarySpec, Experiment
from hmrb.store import Store
from hmrb.training.losses import fake_loss, real_loss, scaled


@dataclass
class Adversary:
    """The discriminator and its optimiser. Real bodies come with the batch."""

    network: Discriminator
    wrapped: nn.Module
    optimiser: torch.optim.Optimizer
    weight: float

    def backward(self, prediction: Prediction, real: BodyParams, num_micro_batches: int) -> dict[str, Tensor]:
        """Adds the gradient of the discriminator's own loss and returns its terms. The prediction gets no gradient."""
        rotmats = torch.cat([real.rotmats, prediction.rotmats.detach()])
        betas = torch.cat([real.betas, prediction.betas.detach()])
        scores = self.wrapped(rotmats, betas)  # one pass for both: DDP allows one forward per backward
        of_real, of_fake = scores.split([len(real.betas), len(prediction.betas)])
        terms = {"discriminator_real": real_loss(of_real), "discriminator_fake": fake_loss(of_fake)}
        scaled(torch.stack(list(terms.values())).sum(), 1 / num_micro_batches).backward()
        return terms

    def loss(self, prediction: Prediction) -> Float[Tensor, ""]:
        """The model's adversarial term. The discriminator gets no gradient: it learns from its own loss alone."""
        network = self.network.requires_grad_(False)
        loss = scaled(real_loss(network(prediction.rotmats, prediction.betas)), self.weight)
        network.requires_grad_(True)
        return loss


def real_bodies(experiment: Experiment, shards: Mapping[str, Shard], store: Store) -> RealBodies | None:
    """Where a spec's adversary has its real bodies from; None where its weight is 0."""
    spec, seed = experiment.adversary, stream_seed(experiment.seed, "real poses")
    if not spec.weight:
        return None
    if spec.poses == "labels":
        return RealBodies(shards, mixture(shards, experiment.data, seed), bodiless(experiment.data))
    named = {spec.poses: open_shard(store.shard(spec.poses, "train"), spec.poses)}
    alone = experiment.data.model_copy(update={"mix": {spec.poses: 1.0}})
    return RealBodies(named, mixture(named, alone, seed))  # with all bodies: asked for by name


def draw_dataset(experiment: Experiment, shards: Mapping[str, Shard], store: Store) -> DrawDataset:
    """What a spec trains on: people and, with an adversary, real bodies."""
    real = real_bodies(experiment, shards, store)
    return DrawDataset(
        shards, experiment.data, experiment.model.image_px, experiment.seed, real, experiment.model.needs_place
    )


def build_adversary(experiment: Experiment, world: World) -> Adversary | None:
    """The adversary of a spec; None where its weight is 0."""
    spec: AdversarySpec = experiment.adversary
    if not spec.weight:
        return None
    network = Discriminator(kind_of(experiment.body)).to(world.device)
    wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True) if world.size > 1 else network
    optimiser = torch.optim.Adam(network.parameters(), spec.lr, fused=experiment.speed.fused)
    return Adversary(network, wrapped, optimiser, spec.weight)
