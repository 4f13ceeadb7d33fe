"""Serve a trained classifier over HTTP, with an interface for programs and a web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from dlnotes.arguments import Range, checked
from dlnotes.display import printable
from dlnotes.errors import UserError
from dlnotes.serving.hosts import Hosts
from dlnotes.serving.limits import Limits
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.device import choose_device
from dlnotes.training.scoring import single_threaded


@checked
def main(
    run: Path,
    /,
    host: str = "127.0.0.1",
    port: Annotated[int, Range(0, le=65535)] = 8000,
    allowed_hosts: tuple[str, ...] = (),
    limits: Annotated[Limits, arg(name="")] = Limits(),
    device: str = "auto",
) -> None:
    """Serve a trained classifier until Ctrl-C or SIGTERM.

    The page at / classifies a text while you type it. POST /predict takes a JSON object:
    for {"text": TEXT, "top_k": 3} it returns what dlnotes predict prints, and
    for {"texts": [TEXT, …]} a list of that. POST /explain returns the weight of each word, which
    dlnotes predict --explain shows in colours. GET /health, /metrics (for Prometheus)
    and /openapi.json describe the server. Requests that arrive while others are being classified
    are batched.

    There is no authentication and no encryption: anybody who can reach the port can use it.
    Web pages of other sites cannot read its answers. As a defence against DNS rebinding, a request
    whose Host header has another name than the server's is answered with 421.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        host: Where to listen; 0.0.0.0 or :: for all networks of this machine.
        port: Port; 0 for any that is free.
        allowed_hosts: Further names by which clients may call the server, such as example.org,
            *.example.org or * for any. Always allowed are localhost, 127.0.0.1, [::1] and --host;
            where other machines can reach --host (0.0.0.0, say) also this machine's name and all
            IP addresses.
        limits: How much clients may ask for.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps.
    """
    try:
        from dlnotes.serving import server  # here, since its packages are an extra
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("dlnotes"):
            raise
        raise UserError(
            f"serve needs the package {error.name}: pip install 'dlnotes[serve]'"
        ) from error
    hosts = Hosts(host, allowed_hosts)
    with single_threaded(), server.bind(host, port) as listener:
        classifier = TextClassifier.load(run, choose_device(device))
        url = server.url_of(listener)
        server.serve(
            classifier,
            listener,
            name=printable(run.resolve().name) or "a classifier",
            limits=limits,
            hosts=hosts,
            ready=lambda: print(
                f"{printable(str(run))} is served at {url} (Ctrl-C ends)", flush=True
            ),
        )
