"""The heads that a spec can name, in one table."""

from collections.abc import Callable
from typing import Any

from torch import nn

from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.lookup import find
from hmrb.models.decoder import DecodedTokens, DecoderHead
from hmrb.models.head import DirectHead, IterativeHead, check_head
from hmrb.models.part_attention import PartAttentionHead
from hmrb.plugins import find_plugin, refuse_arguments
from hmrb.spec import AnyHeadSpec, HeadSpec

HEADS: dict[str, Callable[[int, Any, BodyKind], nn.Module]] = {
    "iterative": IterativeHead,
    "direct": DirectHead,
    "decoder": DecoderHead,
    "tokens": DecodedTokens,
    "part_attention": lambda channels, spec, kind: PartAttentionHead(channels, spec.width, spec.shape_width, kind),
}


def build_head(num_features: int, spec: AnyHeadSpec, kind: BodyKind = SMPL_KIND) -> nn.Module:
    """The head of a spec, of hmrb or of another package. Raises RequestError if that is not possible."""
    if isinstance(spec, HeadSpec):
        if plugin := find_plugin("head", spec.name, HEADS):
            head: nn.Module = plugin.build(spec.args, num_features, spec, kind)
            plugin.tried("does not work as a head", lambda: check_head(head, num_features, kind))
            return head
        refuse_arguments("head", spec.name, spec.args)
    return find("head", spec.name, HEADS)(num_features, spec, kind)
