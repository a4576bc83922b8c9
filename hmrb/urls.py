"""Places elsewhere as URLs: what is one, what is mistyped, and the login of one, which no message, file or name has."""

import json
import os
import re
from urllib.parse import SplitResult, urlsplit

from hmrb.errors import RequestError

EXAMPLES = "s3://bucket/folder, gs://bucket/folder, https://server/folder or file:///folder"
LOGIN = re.compile(r"(?<=://)[^/]*:[^/]*@|(?<=http://)[^/]*@|(?<=https://)[^/]*@")
LOGINS = "HMRB_LOGINS"  # servers with their logins: a variable, so that loading processes have it too
HTTP = ("http", "https")


def is_url(text: str) -> bool:
    """Whether a place is a URL, not a path."""
    return bool(re.match(r"[a-z][a-z0-9+.\-]+://", text))


def local_path(text: str) -> str:
    """A path, as it is. Raises RequestError for what looks like a URL: `s3:/x`, `S3://x`, `s3:x`."""
    if re.match(r"[a-z][a-z0-9+.\-]+:/|(s3|gs|https?|file):", text, re.IGNORECASE) or "://" in text:
        shown = re.sub(r":.*@", ":...@", text)
        raise RequestError(f"{shown}: not a URL; write {EXAMPLES}; for a folder of this name here, ./{shown}")
    return text


def url_of(text: str) -> str:
    """A URL without a `/` at its end, nor its login, which requests add again. Raises RequestError if it is malformed.

    A user name alone is a login only of a web server: in `abfs://`, for one, it is the container.
    """
    try:
        why = "" if _names_a_place(urlsplit(text)) else "it names no bucket, server or folder"
    except ValueError as error:
        why = "malformed" if "@" in text else str(error)  # which may quote a part of a password
    if why:
        raise RequestError(f"{re.sub('://.*@', '://...@', text)}: not a URL that can be read ({why}); write {EXAMPLES}")
    bare = without_login(text)
    if bare != text:
        logins = {_server(bare): _server(text)}
        os.environ[LOGINS] = json.dumps(json.loads(os.environ.get(LOGINS, "{}")) | logins)
    return bare.rstrip("/")


def without_login(text: str) -> str:
    """A text without the logins of the URLs in it."""
    return LOGIN.sub("", text)


def with_login(url: str) -> str:
    """The URL that a request is sent to."""
    server = _server(url)
    logins: dict[str, str] = json.loads(os.environ.get(LOGINS, "{}"))
    return logins.get(server, server) + url[len(server) :]


def _server(url: str) -> str:
    return "/".join(url.split("/")[:3])


def _names_a_place(parts: SplitResult) -> bool:
    """Raises ValueError if the port is no number, or if the server's name has an empty part."""
    if parts.scheme in HTTP:
        if ".." in (parts.hostname or ""):
            raise ValueError(f"{parts.hostname} is no server's name")
        return bool(parts.hostname) and parts.port != 0
    return bool((parts.netloc + parts.path).strip("/") if parts.scheme == "file" else parts.netloc)
