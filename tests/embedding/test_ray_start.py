"""Starting Ray: again where the machine was too busy, and in one line where it cannot be."""

import pytest
import ray

from mulap.embedding import ray_start
from mulap.embedding.cluster import Cluster, RayEngine


def test_ray_is_started_again_where_the_machine_was_too_busy(monkeypatch):
    num_starts = []

    def start(address, **options):
        num_starts.append(address)
        if len(num_starts) < 3:
            raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.setattr(ray, "init", start)
    ray_start.start_ray(None)
    assert num_starts == ["local"] * 3
    monkeypatch.setattr(ray_start, "_STARTS", 1)
    num_starts.clear()
    with pytest.raises(ValueError, match="starting Ray here: took too long, 1 times"):
        ray_start.start_ray(None)


def test_what_is_kept_quiet_is_heard_again_where_ray_does_not_start(monkeypatch, capsys):
    def find_none(address, **options):
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", find_none)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ValueError, match="--ray-address auto: Could not find"):
        RayEngine(Cluster(address="auto")).__enter__()
    print("heard")
    assert capsys.readouterr().out == "heard\n"
