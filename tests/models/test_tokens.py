"""TokenHMR's head and tokenizer with stand-in weights under the released names, against recordings of its code."""

from functools import cache

import numpy as np
import torch
from recipe_methods import method_golden, off, released
from torch import Tensor

from hmrb.geometry import rot6d_to_rotmat, rotvec_to_rotmat
from hmrb.models.foreign import follow
from hmrb.models.tokens import RELEASED_TOKENIZER, PoseTokenizer, TokenHead

UNSURE = 1e-3  # scores or distances as close as this may change places by rounding


@cache
def tokenizer_weights() -> dict[str, Tensor]:
    return released("tokenhmr", "", "tokenizer_net")


@cache
def head_weights() -> dict[str, Tensor]:
    theirs = released("tokenhmr", "smpl_head.")
    own = {key: value for key, value in theirs.items() if not key.startswith("transformer.")}  # another module's
    return own | follow(RELEASED_TOKENIZER, tokenizer_weights())[0]


def token_head() -> TokenHead:
    head = TokenHead().eval()
    head.load_state_dict(head_weights())
    return head


def recording() -> dict[str, np.ndarray]:
    return method_golden("method_tokenhmr_seed0")


@torch.no_grad()
def test_the_head_predicts_what_tokenhmr_does() -> None:
    recorded = recording()
    prediction, scores = token_head().with_scores(torch.from_numpy(recorded["dec_token"]))
    rotmats = np.concatenate([recorded["global_orient"], recorded["body_pose"]], 1)
    assert np.abs(prediction.rotmats.numpy() - rotmats).max() < 1e-4
    assert off(prediction.betas, recorded["betas"]) < 1e-5
    assert off(prediction.camera, recorded["pred_cam"]) < 1e-5
    assert off(scores[:, :3, ::16], recorded["token_logits_first3"]) < 1e-5


@torch.no_grad()
def test_tokens_are_chosen_and_decoded_as_in_tokenhmr() -> None:
    recorded = recording()
    head = token_head()
    scores = head.decpose(torch.from_numpy(recorded["dec_token"]))
    choice = scores.softmax(-1)
    best = scores.topk(2).values
    clear = (best[..., 0] - best[..., 1] > UNSURE).numpy()
    assert clear.mean() > 0.98
    assert np.array_equal(scores.argmax(-1).numpy()[clear], recorded["token_argmax"][clear])
    assert off(choice.amax(-1), recorded["token_max_prob"]) < 1e-4
    assert off(-(choice * choice.log()).sum(-1), recorded["token_entropy"]) < 1e-4
    assert off(head.tokenizer.decode(choice), recorded["tokenizer_pose6d"]) < 1e-4


@torch.no_grad()
def test_the_encoder_finds_the_recorded_tokens() -> None:
    recorded = recording()
    tokenizer = PoseTokenizer().eval()
    tokenizer.load_state_dict(tokenizer_weights())
    pose = torch.from_numpy(recorded["encoder_in_6d"])
    latents = tokenizer.latents(pose)
    assert list(latents.mT.shape) == recorded["encoder_shape"].tolist()
    assert off(latents.mean(2), recorded["encoder_mean"]) < 1e-4
    nearest = torch.cdist(latents, tokenizer.quantizer.codebook[None]).topk(2, largest=False).values
    clear = (nearest[..., 1] - nearest[..., 0] > UNSURE).numpy()
    assert clear.mean() > 0.98
    assert np.array_equal(tokenizer.encode(pose).numpy()[clear], recorded["encoder_token_index"][clear])


def test_every_released_tensor_has_its_place() -> None:
    head, tokenizer = TokenHead().state_dict(), PoseTokenizer().state_dict()
    assert {key: value.shape for key, value in head.items()} == {
        key: value.shape for key, value in head_weights().items()
    }
    assert {key: value.shape for key, value in tokenizer.items()} == {
        key: value.shape for key, value in tokenizer_weights().items()
    }
    assert follow(RELEASED_TOKENIZER, tokenizer_weights())[1] == {"encoder": 22}


def test_two_vectors_become_the_rows_of_a_rotation() -> None:
    rotation = rotvec_to_rotmat(torch.tensor([[0.3, -0.8, 1.1], [2.0, 0.1, 0.4]]))
    assert torch.allclose(rot6d_to_rotmat(rotation[:, :2].flatten(1), "rows"), rotation, atol=1e-6)


def test_training_moves_the_choice_of_tokens_and_not_the_tokenizer() -> None:
    head = TokenHead(features=8)
    head(torch.randn(2, 8)).rotmats[..., 0, 1].sum().backward()
    assert head.decpose.mixer_trans.ff[0].weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in head.tokenizer.parameters())
