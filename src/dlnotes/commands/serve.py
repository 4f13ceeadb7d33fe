"""Answer over HTTP what texts are, with a trained classifier, and show it on a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from dlnotes.arguments import Range, checked
from dlnotes.errors import UserError
from dlnotes.serving.limits import Limits
from dlnotes.training.classifier import TextClassifier
from dlnotes.training.device import choose_device
from dlnotes.training.scoring import single_threaded


@checked
def main(
    run: Path,
    /,
    host: str = "127.0.0.1",
    port: Annotated[int, Range(0, most=65535)] = 8000,
    limits: Annotated[Limits, arg(name="")] = Limits(),
    device: str = "auto",
) -> None:
    """Serve a trained classifier until Ctrl-C or SIGTERM.

    At / is a page on which a text is classified while it is typed. POST /predict answers a JSON
    object {"text": TEXT, "top_k": 3} with what dlnotes predict prints, and {"texts": [TEXT, …]}
    with a list of that; POST /explain weighs the words of a text as dlnotes predict --explain does.
    GET /health, /metrics (for Prometheus) and /openapi.json tell about the server. Requests that
    wait together are classified together.

    There is no password and no encryption: whoever reaches the port may ask.

    Args:
        run: Folder that dlnotes train or dlnotes ensemble wrote.
        host: Where to listen; 0.0.0.0 or :: for all networks of this machine.
        port: 0 for any that is free.
        limits: How much clients may ask for.
        device: auto, cpu, cuda, cuda:1 (and so on) or mps.
    """
    try:
        from dlnotes.serving import server  # here, for its packages are an extra
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("dlnotes"):
            raise
        raise UserError(
            f"serve needs the package {error.name}: pip install 'dlnotes[serve]'"
        ) from error
    with single_threaded(), server.bind(host, port) as listener:
        classifier = TextClassifier.load(run, choose_device(device))
        url = server.url_of(listener)
        server.serve(
            classifier,
            listener,
            name=run.resolve().name or "a classifier",
            limits=limits,
            ready=lambda: print(f"{run} is served at {url} (Ctrl-C ends)", flush=True),
        )
