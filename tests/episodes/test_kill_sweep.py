"""Twenty kills at random and at chosen moments, two SIGTERMs and two full disks (`make kill-sweep`: 200)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).parent / "kill_sweep.py"


@pytest.mark.realtime
def test_no_episode_is_lost_to_twenty_kills():
    done = subprocess.run([sys.executable, DRIVER, "--kills", "20"], capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout.splitlines()[-1])
    assert not outcome["failures"] and done.returncode == 0, outcome["failures"]
    assert outcome["rounds"] == {"random": 10, "chunk": 5, "finish": 5, "sigterm": 2, "full": 2}
    assert outcome["finished_episodes"] > 5 and outcome["open_attempts"] > 10
