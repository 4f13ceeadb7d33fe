"""``dlnotes serve`` in this process: its answers are those of predict, and requests have bounds."""

import asyncio
import json
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from starlette.testclient import TestClient

import dlnotes.serving
from dlnotes.errors import UserError
from dlnotes.serving.app import make_app
from dlnotes.serving.batching import Batcher
from dlnotes.serving.limits import Held, Limits, Refused
from dlnotes.serving.schema import PredictRequest, parse
from dlnotes.training.classifier import TextClassifier

TEXTS = [
    "the goal of the team",
    "a chip and code",
    "unknownword",
    "",
    "a\0b",
    "tab\there",
    "é 球 🙂",
]
JSON = {"content-type": "application/json"}


def client_of(folder, **limits):
    app = make_app(TextClassifier.load(folder), folder.name, Limits(**limits))
    return TestClient(app, "http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(runs):
    with client_of(runs / "one", max_bytes=2000, max_texts=5, max_explained=30) as client:
        yield client


def ask(client, content, path="/predict"):
    return client.post(path, content=json.dumps(content), headers=JSON)


def refused(answer, status):
    """The sentence of an answer that refuses, which is one of plain words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert list(told) == ["error"]
    assert "Traceback" not in told["error"]
    assert str(Path.cwd()) not in told["error"]
    assert "\n" not in told["error"]
    return told["error"]


@pytest.mark.parametrize("kind", ["one", "several", "attention", "ensemble", "decided"])
def test_answers_are_those_of_predict(runs, kind, capsys):
    from dlnotes.commands.predict import main

    for top_k in (1, 3):
        main(runs / kind, tuple(TEXTS), top_k=top_k)
        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        with client_of(runs / kind) as client:
            assert ask(client, {"texts": TEXTS, "top_k": top_k}).json() == printed
            for text, row in zip(TEXTS, printed, strict=True):
                alone = ask(client, {"text": text, "top_k": top_k}).json()
                assert list(alone) == list(row)
                assert alone["text"] == row["text"]
                for key in ("label", "labels"):
                    assert alone.get(key) == row.get(key)
                first, second = ([t["probability"] for t in r["top"]] for r in (alone, row))
                assert first == pytest.approx(second, rel=1e-5)  # a batch of another size
    if kind == "decided":  # some texts have a label, and some have none
        assert {row["label"] for row in printed} > {None}
    if kind == "several":
        assert len({len(row["labels"]) for row in printed}) > 1


def test_explanations_are_those_of_the_classifier(runs):
    for kind, method in (
        ("one", "occlusion"),
        ("attention", "attention"),
        ("several", "occlusion"),
    ):
        (expected, *_) = TextClassifier.load(runs / kind).explain([TEXTS[0]])
        with client_of(runs / kind) as client:
            told = ask(client, {"text": TEXTS[0]}, "/explain").json()[0]
        assert (told["method"], told["tokens"]) == (method, expected.tokens)
        assert told["weights"] == expected.weights
        assert told["label"] == expected.label


def test_the_time_for_a_body_is_proportional_to_its_fields():
    fields = b"".join(b',"%d":1' % i for i in range(80_000))
    start = time.monotonic()
    with pytest.raises(Refused, match="'0' is not a field"):
        parse(PredictRequest, b'{"t\\u0065xt":"a"' + fields + b"}")
    assert time.monotonic() - start < 5  # all pairs of fields would take a minute


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "the body is empty"),
        (b"{", 400, "EOF"),
        (b'{"text": "a"} {}', 400, "trailing"),
        (b'{"text": "\\ud800"}', 400, "hex escape"),
        (b'{"text": "\xff"}', 400, "unicode"),
        (b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "recursion"),
        (b'{"text": "a", "text": "b"}', 400, "the body has 'text' twice"),
        (b'{"text" : "a", "t\\u0065xt"\n:"a"}', 400, "the body has 'text' twice"),
        (b'{"texts": ["a"], "top_k": 1, "texts": ["b"]}', 400, "the body has 'texts' twice"),
        (b'{"top_k": 1, "text": "a", "top_k": 1}', 400, "the body has 'top_k' twice"),
        (b'{"text": "a", "text": 1}', 400, "the body has 'text' twice"),
        (b'[{"text": 1, "text": 1}]', 422, "JSON object"),
        (b'{"text": NaN}', 422, "text: "),
        (b"[]", 422, "JSON object"),
        (b"{}", 422, "either text or texts"),
        (b'{"text": "a", "texts": []}', 422, "either text or texts"),
        (b'{"text": 1}', 422, "text: "),
        (b'{"texts": "ab"}', 422, "texts: "),
        (b'{"texts": ["a", null]}', 422, "texts.1: "),
        (
            b'{"text": "a", "path": "/"}',
            422,
            "'path' is not a field; fields are text, texts, top_k",
        ),
        (b'{"' + b"a" * 1000 + b'": 1}', 422, "'" + "a" * 40 + "' is not a field"),
        (b'{"text": "a", "top_k": 0}', 422, "top_k: "),
        (b'{"text": "a", "top_k": 1e99}', 422, "top_k: "),
        (b'{"text": "a", "top_k": true}', 422, "top_k: "),
        (b'{"texts": ["", "", "", "", "", ""]}', 422, "at most 5 texts, not 6"),
        (b'{"text": "' + b"a" * 2000 + b'"}', 413, "at most 2,000 bytes"),
    ],
)
def test_a_bad_body_is_told_in_a_sentence(client, body, status, sentence):
    told = refused(client.post("/predict", content=body, headers=JSON), status)
    assert sentence in told


def test_what_looks_like_a_field_within_a_text_is_none(client):
    texts = ['a": b', '{"text": "a", "text" :', '\\": ', '\\\\":', '"', "text", "\\"]
    for ensure_ascii in (False, True):
        for text in texts:
            body = json.dumps({"text": text, "top_k": 1}, ensure_ascii=ensure_ascii)
            answer = client.post("/predict", content=body, headers=JSON)
            assert answer.json()["text"] == text


def test_bad_headers_are_told(client):
    good = b'{"text": "a"}'
    for headers in ({}, {"content-type": "text/plain"}, {**JSON, "content-encoding": "gzip"}):
        assert "application/json" in refused(
            client.post("/predict", content=good, headers=headers), 415
        )
    assert "Content-Length" in refused(
        client.post("/predict", content=iter([good]), headers=JSON), 411
    )
    huge = {**JSON, "content-length": "9" * 30}
    assert "2,000" in refused(client.post("/predict", content=good, headers=huge), 413)


def test_other_paths_and_methods(client):
    for path in ("/x", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/style.css/", "/docs"):
        assert "nothing at this path" in refused(client.get(path), 404)
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "TRACE"):
        answer = client.request(method, "/predict")
        assert "method" in refused(answer, 405)
        assert answer.headers["allow"] == "POST"
    for path in ("/health", "/metrics", "/openapi.json", "/"):
        told, whole = client.head(path), client.get(path)
        assert (told.status_code, told.content) == (200, b"")
        assert told.headers["content-type"] == whole.headers["content-type"]
    assert client.head("/health").headers["content-length"] == str(
        len(client.get("/health").content)
    )
    assert client.head("/predict").status_code == 405
    assert "evil.example, which is not" in refused(
        client.get("/", headers={"host": "evil.example"}), 421
    )
    assert "Host must be a name" in refused(
        client.get("/", headers={"host": "evil.example\tx"}), 400
    )


def test_long_texts_are_not_explained(client):
    assert "at most 30 characters is explained, not 31" in refused(
        ask(client, {"text": "a" * 31}, "/explain"), 422
    )


def test_the_page_loads_nothing_from_elsewhere(client):
    for path, kind in (
        ("/", "html"),
        ("/style.css", "css"),
        ("/script.js", "javascript"),
        ("/icon.svg", "svg"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = answer.text.replace("http://www.w3.org/2000/svg", "")
        assert "//" not in "".join(line.partition("// ")[0] for line in text.splitlines())
    page = client.get("/").text
    assert "style=" not in page
    assert "onclick" not in page
    assert client.head("/").status_code == 200


def test_openapi_describes_what_is_answered(runs, client):
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/predict", "/explain", "/health", "/metrics"}
    predict = described["paths"]["/predict"]["post"]
    properties = predict["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(properties) == {"text", "texts", "top_k"}
    assert {"200", "400", "413", "415", "422", "429", "503"} <= set(predict["responses"])
    schemas = described["components"]["schemas"]
    assert set(schemas["LabelAnswer"]["properties"]) == set(ask(client, {"text": "a"}).json())
    with client_of(runs / "several") as several:
        schemas = several.get("/openapi.json").json()["components"]["schemas"]
        assert set(schemas["LabelsAnswer"]["properties"]) == set(ask(several, {"text": "a"}).json())


def test_metrics_count(runs):
    with client_of(runs / "one") as client:
        ask(client, {"texts": ["a", "b"]})
        ask(client, {"text": 1})
        client.get("/nowhere")
        told = client.get("/metrics")
        assert told.headers["content-type"].startswith("text/plain")
        for line in (
            'dlnotes_requests_total{path="/predict",status="200"} 1.0',
            'dlnotes_requests_total{path="/predict",status="422"} 1.0',
            'dlnotes_requests_total{path="other",status="404"} 1.0',
            "dlnotes_texts_total 2.0",
            "dlnotes_batch_texts_sum 2.0",
            "dlnotes_predict_seconds_count 2.0",
            "dlnotes_waiting_texts 0.0",
        ):
            assert line in told.text.splitlines()
        assert client.get("/health").json()["status"] == "ok"


def test_a_failing_model_is_told_without_its_reason(runs, capsys):
    classifier = TextClassifier.load(runs / "one")
    for weight in classifier.model.parameters():
        weight.data.fill_(float("nan"))
    app = make_app(classifier, "x", Limits())
    with TestClient(app, "http://localhost", raise_server_exceptions=False) as client:
        for path in ("/predict", "/explain"):
            assert "failed to answer" in refused(ask(client, {"text": "goal"}, path), 500)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: a request failed: ")
    assert second.startswith("warning: a request failed: ")


class Slow:
    """A model that waits to be let go."""

    def __init__(self):
        self.batches, self.go = [], threading.Event()

    def __call__(self, texts, top_k):
        self.batches.append((list(texts), top_k))
        self.go.wait(20)
        if "bad" in texts:
            raise ValueError("a bad text")
        return [f"{text}/{top_k}" for text in texts]


def with_batcher(work, **limits):
    async def whole():
        model = Slow()
        batcher = Batcher(model, Limits(**limits))
        batcher.start()
        try:
            return await work(batcher, model)
        finally:
            model.go.set()
            await batcher.stop()

    return asyncio.run(whole())


async def _taken(model, batches=1):
    while len(model.batches) < batches:
        await asyncio.sleep(0.001)


def test_requests_that_wait_together_are_predicted_together():
    async def work(batcher, model):
        first = asyncio.ensure_future(batcher.ask(["a"], 1))
        await _taken(model)  # the event loop is free although the model works
        rest = [asyncio.ensure_future(batcher.ask([f"b{i}", f"c{i}"], 1 + i % 2)) for i in range(6)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await first == ["a/1"]
        for i, each in enumerate(await asyncio.gather(*rest)):
            assert each == [f"b{i}/{1 + i % 2}", f"c{i}/{1 + i % 2}"]
        assert [len(texts) for texts, _ in model.batches] == [1, 6, 6]  # by top_k
        assert batcher.waiting == 0

    with_batcher(work)


def test_a_bad_text_is_nobody_elses_error():
    async def work(batcher, model):
        model.go.set()
        asked = [batcher.ask([text], 1) for text in ("a", "bad", "b")]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert found[0] == ["a/1"]
        assert isinstance(found[1], ValueError)
        assert found[2] == ["b/1"]
        assert len(model.batches[0][0]) == 3

    with_batcher(work)


def test_a_full_queue_and_a_late_answer_are_told():
    async def work(batcher, model):
        first = asyncio.ensure_future(batcher.ask(["a"], 1))
        await _taken(model)
        late = asyncio.ensure_future(batcher.ask(["b", "c"], 1))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as full:
            await batcher.ask(["d", "e"], 1)
        assert full.value.status == 429
        assert full.value.headers == {"retry-after": "1"}
        for waiting in (first, late):
            with pytest.raises(Refused) as slow:
                await waiting
            assert slow.value.status == 503
        model.go.set()
        assert await batcher.ask(["f"], 1) == ["f/1"]
        assert ["b", "c"] not in [texts for texts, _ in model.batches]  # nobody waited any more
        assert batcher.waiting == 0

    with_batcher(work, max_waiting=3, answer_seconds=0.2)


def test_bytes_of_all_requests_have_a_bound(runs):
    held = Held(10)
    held.take(6)
    with pytest.raises(Refused):
        held.take(5)
    held.give_back(6)
    held.take(10)
    with client_of(runs / "one", max_held=40) as client:
        for _ in range(5):  # each gives back what it took
            assert ask(client, {"text": "a"}).status_code == 200
            assert ask(client, {"text": 1}).status_code == 422
        answer = ask(client, {"text": "a" * 40})
        assert "try again" in refused(answer, 429)
        assert answer.headers["retry-after"] == "1"


def test_many_clients_at_once_get_their_own_answers(runs):
    with client_of(runs / "one") as client:
        expected = {text: ask(client, {"text": text}).json()["label"] for text in TEXTS}
        wrong = []

        def many(k):
            for i in range(10):
                text = TEXTS[(i + k) % len(TEXTS)]
                told = ask(client, {"text": text}).json()
                if (told["text"], told["label"]) != (text, expected[text]):
                    wrong.append(told)

        threads = [threading.Thread(target=many, args=(k,)) for k in range(8)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert time.monotonic() - began < 60


def test_mistakes_of_whoever_starts_it_are_told(runs, tmp_path, monkeypatch):
    from dlnotes.commands.serve import main

    def told(run, **options):
        with pytest.raises(UserError) as error:
            main(run, **{"port": 0, **options})
        assert "\n" not in str(error.value)
        return str(error.value)

    one = runs / "one"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is in use" in told(one, port=port)
    assert "port must be at least 0 and at most 65,535" in told(one, port=70_000)
    assert "'no.such.host.invalid' is not an address" in told(one, host="no.such.host.invalid")
    assert "'192.0.2.1' is not an address" in told(one, host="192.0.2.1")
    assert str(tmp_path) in told(tmp_path, host="[127.0.0.1]")  # brackets as in a URL
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for file in one.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes()[:100])
    assert str(damaged) in told(damaged)
    with pytest.raises(UserError, match="max_texts must be at least 1"):
        Limits(max_texts=0)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "dlnotes.serving.server")
    monkeypatch.delattr(dlnotes.serving, "server")
    assert told(one) == "serve needs the package uvicorn: pip install 'dlnotes[serve]'"
