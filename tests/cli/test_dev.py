"""`nucleon dev` survives a broken application and serves the mended one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

APP = "from nucleon import App\n\napp = App('small')\n"


def test_a_broken_app_is_told_and_the_mended_one_is_served(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUCLEON_")}
    command = [sys.executable, "-m", "nucleon", "dev", "--bind", "127.0.0.1:0"]
    house = {**kept, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, cwd=tmp_path, env=house, stderr=subprocess.PIPE, text=True) as served:
        assert served.stderr is not None

        def line_with(text: str) -> None:
            assert served.stderr is not None
            assert any(text in line for line in iter(served.stderr.readline, "")), f"no {text!r}"

        try:
            line_with("serving app:app")
            (tmp_path / "app.py").write_text(APP + "x = (\n")
            line_with("cannot import app")
            (tmp_path / "app.py").write_text(APP)
            line_with("serving app:app")
        finally:
            served.send_signal(signal.SIGTERM)
            served.stderr.read()
        assert served.wait(20) == 0
