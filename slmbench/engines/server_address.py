"""Where a server is, and whether it may be asked: on this machine, unless a person says otherwise."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import socket
from urllib.parse import urlsplit

from attrs import frozen

from slmbench.errors import TrustError, UsageError
from slmbench.visible import visible

TIMEOUT_S = 600.0
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORTS = {"http": 80, "https": 443}


@frozen
class ServerOptions:
    """How a server is asked. url: where it is; None if none is to be asked. served: what it calls the model.

    allow_remote: it may be on another machine. api_key_env: the environment variable that holds its key; the key itself
    is in no record. timeout_s: how long an answer may take, seconds.
    """

    url: str | None = None
    served: str | None = None
    allow_remote: bool = False
    api_key_env: str | None = None
    timeout_s: float = TIMEOUT_S

    @property
    def given(self) -> list[str]:
        """The flags by which a person gave any of it."""
        told = {
            "--url": self.url is not None,
            "--served": self.served is not None,
            "--allow-remote": self.allow_remote,
            "--api-key-env": self.api_key_env is not None,
            "--timeout": self.timeout_s != TIMEOUT_S,
        }
        return [flag for flag, is_given in told.items() if is_given]

    def check(self) -> None:
        """Raises UsageError for a timeout that is none, and for a key that isn't there."""
        if not 0 < self.timeout_s < math.inf:
            raise UsageError(f"--timeout is {self.timeout_s:g} seconds; give a number above 0")
        self.api_key()

    def api_key(self) -> str | None:
        """The key; None if none is to be sent. Raises UsageError, without its value, for one that can't be a key."""
        name = self.api_key_env
        if name is None:
            return None
        if not _VARIABLE.fullmatch(name):
            # Somebody's key, most likely, in the place of a name: it isn't repeated.
            raise UsageError("--api-key-env takes the name of an environment variable, and not the key itself")
        key = os.environ.get(name, "")
        if not key:
            raise UsageError(f"--api-key-env {name}: that variable is not set; `export {name}=...` in the shell")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise UsageError(f"--api-key-env {name}: what it holds can't be a key: a blank or another odd character")
        return key


@frozen
class ServerAddress:
    """A server's address. host: without brackets. base: the path before `/v1` and `/api`, '' for none."""

    scheme: str
    host: str
    port: int
    base: str
    loopback: bool

    @property
    def place(self) -> str:
        """Host and port, as a URL has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def told(self, path: str = "") -> str:
        """A URL of it, for messages."""
        return f"{self.scheme}://{self.place}{self.base}{path}"


def address_of(options: ServerOptions) -> ServerAddress:
    """The address that a person gave. Raises UsageError for one that is none or holds a secret, and for an unknown
    host; TrustError for a host that isn't this machine, unless that is allowed.
    """
    url = options.url
    if not url:
        raise UsageError(
            "engine 'server' asks a server that is running, and isn't told where: `slmbench eval MODEL --engine server "
            "--url http://127.0.0.1:PORT`; recipes and matrices name no address, and take another engine"
        )
    # What stands before an @ may be a password, so that the whole is not repeated.
    _, at, _ = url.partition("@")
    if at:
        raise UsageError(
            "--url has a user or a password in it, which would end in logs; leave it out, and give a key by "
            "--api-key-env NAME"
        )
    said = f"--url {visible(url)[:200]}"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(f"{said}: {error}; give one such as http://127.0.0.1:8080") from None
    if scheme not in _PORTS:
        near = f"; did you mean http://{visible(url)[:200]}?" if "://" not in url else ""
        raise UsageError(f"{said}: it begins with neither http:// nor https://{near}")
    if not host or any(one.isspace() or not one.isprintable() for one in url):
        raise UsageError(f"{said}: it names no host; give one such as http://127.0.0.1:8080")
    if parts.query or parts.fragment:
        raise UsageError(f"{said}: leave out what begins with ? or #")
    base = re.sub(r"/(v1(/completions|/models)?|api(/generate)?)?/*$", "", parts.path.rstrip("/"))
    loopback = _is_here(host, said)
    if not loopback and not options.allow_remote:
        hint = "; 0.0.0.0 is where a server listens: give 127.0.0.1" if host in ("0.0.0.0", "::") else ""
        raise TrustError(
            f"{said}: {visible(host)} is another machine, which would be sent all prompts; allow it by "
            f"--allow-remote{hint}"
        )
    return ServerAddress(scheme, host, port or _PORTS[scheme], base, loopback)


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's own, that no network sees."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _is_here(host: str, said: str) -> bool:
    """Whether a name leads to this machine, and nowhere else. Raises UsageError for a name that leads nowhere."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UsageError(f"{said}: there is no host {visible(host)!r}, or no way to look it up from here") from None
    return all(is_loopback(str(one[4][0])) for one in found)
