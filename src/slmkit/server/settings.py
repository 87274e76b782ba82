"""How the server behaves: one list that feeds the command line, the environment and the config file."""

from __future__ import annotations

from dataclasses import dataclass

from slmkit.options import Checked, option


@dataclass(frozen=True)
class ServeOptions(Checked):
    """What `slm serve` takes, beside the options of loading."""

    host: str = option("address to listen on; another than this machine's own needs API keys", str, default="127.0.0.1")
    port: int = option("port to listen on; 11434 is where clients of Ollama look, 0 takes a free one", int, 0, 65535,
                       default=8000)  # fmt: skip
    keep_alive: str = option(
        "how long an idle model stays loaded: 30s, 5m, 2h; 0 unloads it at once, -1 keeps it", str, default="5m"
    )
    api_keys: str | None = option("file of API keys, one a line; SLMKIT_API_KEY holds one, too", str)
    open_to_all: bool = option("answer without API keys on an address that others reach", bool, default=False)
    rate_limit: int = option(
        "most requests a minute of one API key, or of one address; 0 is no limit", int, 0, default=0
    )
    max_body_mb: int = option("most megabytes of one request", int, 1, 4096, default=64)
    max_connections: int = option(
        "most connections at once; beyond it the one that has been idle longest is closed", int, 8, 60000, default=512
    )
    client_timeout: float = option(
        "most seconds that a client may take to begin a request, to go on with it, or to read its answer", float, 0.1,
        default=30.0)  # fmt: skip
    allow_origins: tuple[str, ...] = option(
        "web pages that may call this server, such as https://example.org; its own page always may", str, many=True,
        default=())  # fmt: skip
    allow_hosts: tuple[str, ...] = option(
        "names under which this server is reached, beside localhost and its addresses", str, many=True, default=()
    )
    image_urls: bool = option(
        "fetch images from http(s) URLs in requests; data URLs are always read", bool, default=False
    )
    deadline: float | None = option("most seconds of one request", float, 0.001)
    drain: float = option(
        "most seconds that requests under way may go on once the server is told to stop", float, 0, default=25.0
    )
    log_prompts: bool = option("write prompts and answers to the log", bool, default=False)
