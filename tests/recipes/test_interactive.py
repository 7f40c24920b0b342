"""Notebooks and Streamlit run their code again and again in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from support.awaiting import DEADLINE
from support.recipes import Recipe, assert_metrics
from support.scripted import Server


def test_jupyter(tmp_path: Path, provider: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("Jupyter", tmp_path, provider)
    scrape = f"print(__import__('urllib.request').request.urlopen('http://127.0.0.1:{recipe.metrics_port}/metrics').read().decode())"
    cells = [nbformat.v4.new_code_cell(block) for block in [*recipe.blocks("python") * 2, scrape]]
    notebook = nbformat.v4.new_notebook(cells=cells)
    for name, value in recipe.environment.items():
        monkeypatch.setenv(name, value)
    NotebookClient(notebook, timeout=int(DEADLINE), resources={"metadata": {"path": str(tmp_path)}}).execute()
    (totals,) = notebook.cells[3].outputs
    assert totals["data"]["text/plain"].startswith("{'explore': Totals(calls=2, errors=0, cost_usd=0.00944,")
    (scraped,) = notebook.cells[4].outputs
    assert_metrics(scraped["text"], {("notebook", "explore"): 2})


def run_script(session: Any) -> None:
    """Run the script once, as Streamlit's page does, and wait until it has ended."""
    message = BackMsg()
    message.rerun_script.query_string = ""
    session.send(message.SerializeToString())
    while True:
        received = ForwardMsg.FromString(session.recv(timeout=DEADLINE))
        if received.WhichOneof("type") == "script_finished":
            assert received.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
            return


def test_streamlit(tmp_path: Path, provider: Server) -> None:
    recipe = Recipe("Streamlit", tmp_path, provider)
    recipe.write()
    with recipe.running():
        assert recipe.get("/_stcore/health") == "ok"
        url = f"ws://127.0.0.1:{recipe.port}/_stcore/stream"
        for _ in range(2):
            with connect(url, subprotocols=["streamlit"], max_size=None) as session:
                run_script(session)
                run_script(session)
        calls = {("support", "answer"): len(provider.requests)}
        assert len(provider.requests) >= 4
        assert_metrics(recipe.get("/metrics", recipe.metrics_port), calls)
