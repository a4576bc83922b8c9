"""The adversarial prior: a discriminator that learns to tell predicted bodies from real ones (HMR, CVPR 2018)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hmrb.batch import BodyParams, Prediction
from hmrb.bodykind import kind_of
from hmrb.data.loader import bodiless, mixture, real_poses, stream_seed
from hmrb.data.shard import Shard, open_shard
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.discriminator import Discriminator
from hmrb.parallel.world import World
from hmrb.spec import AdversarySpec, Experiment
from hmrb.store import Store
from hmrb.training.losses import fake_loss, real_loss


@dataclass
class Adversary:
    """The discriminator, its optimiser, and where real bodies come from."""

    network: Discriminator
    wrapped: nn.Module
    optimiser: torch.optim.Optimizer
    weight: float
    real: Callable[[int], BodyParams]
    """This rank's real bodies for a step, as many as its predictions."""

    def backward(self, prediction: Prediction, real: BodyParams, num_micro_batches: int) -> dict[str, Tensor]:
        """Adds the gradient of the discriminator's own loss and returns its terms. The prediction gets no gradient."""
        device = prediction.betas.device
        rotmats = torch.cat([rotvec_to_rotmat(real.pose.to(device)), prediction.rotmats.detach()])
        betas = torch.cat([real.betas.to(device), prediction.betas.detach()])
        scores = self.wrapped(rotmats, betas)  # one pass for both: DDP allows one forward per backward
        of_real, of_fake = scores.split([len(real.betas), len(prediction.betas)])
        terms = {"discriminator_real": real_loss(of_real), "discriminator_fake": fake_loss(of_fake)}
        (torch.stack(list(terms.values())).sum() / num_micro_batches).backward()
        return terms

    def loss(self, prediction: Prediction) -> Float[Tensor, ""]:
        """The model's adversarial term. The discriminator gets no gradient: it learns from its own loss alone."""
        network = self.network.requires_grad_(False)
        loss = self.weight * real_loss(network(prediction.rotmats, prediction.betas))
        network.requires_grad_(True)
        return loss


def build_adversary(
    experiment: Experiment, shards: Mapping[str, Shard], store: Store, world: World
) -> Adversary | None:
    """The adversary of a spec; None where its weight is 0."""
    spec: AdversarySpec = experiment.adversary
    if not spec.weight:
        return None
    if spec.poses == "labels":
        real_shards, sampler = shards, mixture(shards, experiment.data, stream_seed(experiment.seed, "real poses"))
        unused = bodiless(experiment.data)
    else:
        real_shards = {spec.poses: open_shard(store.shard(spec.poses, "train"), spec.poses)}
        alone = experiment.data.model_copy(update={"mix": {spec.poses: 1.0}})
        sampler = mixture(real_shards, alone, stream_seed(experiment.seed, "real poses"))
        unused = frozenset()  # asked for by name
    network = Discriminator(kind_of(experiment.body)).to(world.device)
    wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True) if world.size > 1 else network
    batch = experiment.optim.batch

    def real(step: int) -> BodyParams:
        draws = range(step * batch + world.rank, (step + 1) * batch, world.size)
        return real_poses(real_shards, sampler, draws, unused)

    optimiser = torch.optim.Adam(network.parameters(), spec.lr, fused=experiment.speed.fused)
    return Adversary(network, wrapped, optimiser, spec.weight, real)
