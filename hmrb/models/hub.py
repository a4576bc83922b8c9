"""Asks the hub that timm's weights are on: once per process, for a few seconds, and never for what is in its cache."""

import logging
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from hmrb.needs import hub_address, is_cached

LIMIT_S = 3.0


class NoAnswer(OSError):
    """The hub cannot be reached."""


@cache
def silence(address: str) -> str:
    """Why a host does not answer within LIMIT_S, or "" if it does. Asked once per process: the answer is remembered."""
    limit_s = LIMIT_S
    print(f"hmrb: asking {address} (at most {limit_s:g} s)", file=sys.stderr, flush=True)
    found: list[str] = []
    # A thread, because the system's look-up of a name has no time limit.
    thread = threading.Thread(target=lambda: found.append(_ask(address, limit_s)), daemon=True)
    thread.start()
    thread.join(limit_s)
    return found[0] if found else f"no answer from {address} in {limit_s:g} s"


def _ask(address: str, limit_s: float) -> str:
    """Why a host does not answer. An error that it answers with is an answer."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=limit_s).close()
    except urllib.error.HTTPError:
        return ""
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        return "" if isinstance(why, ssl.SSLError) else f"no answer from {address}: {why}"
    return ""


@contextmanager
def asking(name: str, *, on_hub: bool) -> Iterator[None]:
    """Around a request of timm for its weights of this name. Raises NoAnswer at once if the hub was silent before.

    Weights in the hub's cache are used without a request. `on_hub`: whether timm has them from the hub.
    """
    from huggingface_hub import constants

    if not on_hub:
        yield
        return
    logger, was_offline = logging.getLogger("huggingface_hub"), constants.HF_HUB_OFFLINE
    level = logger.level
    if not is_cached(name):
        if was_offline:
            raise NoAnswer("HF_HUB_OFFLINE is set, and they are not in the cache")
        if why := silence(hub_address()):
            raise NoAnswer(why)
        print(f"hmrb: downloading {hub_address()}/timm/{name}", file=sys.stderr, flush=True)
    logger.setLevel(logging.ERROR)  # hides its retries; a failure is reported by the caller
    constants.HF_HUB_OFFLINE = is_cached(name) or was_offline
    try:
        yield
    finally:
        logger.setLevel(level)
        constants.HF_HUB_OFFLINE = was_offline
