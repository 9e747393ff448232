"""Outputs are computed once; entries may be damaged, gone, in the making by others, or find no room."""

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tests.trainer.features.running import Configure, drained, entries, inputs_of, run, same, task_of
from trainer.cache import Cache, CacheKey
from trainer.features.source import MemoryFeatureStore
from trainer.sequences import dense
from trainer.tasks.image_classification.config import ImageClassificationConfig


def script(config: ImageClassificationConfig, folder: Path) -> list[str]:
    """Trains in a process of its own and tells how many entries it built, and what it reused."""
    code = f"""
import logging, sys, torch
from pathlib import Path
from tests.trainer.features.running import MUCH, run
from trainer.cache import Cache
from trainer.tasks.image_classification.config import ImageClassificationConfig
built = []
class Count(logging.Handler):
    def emit(self, record):
        built.append(record) if record.getMessage().startswith("building") else None
logging.getLogger("trainer.features.source").addHandler(Count())
logging.getLogger("trainer.features.source").setLevel(logging.INFO)
torch.set_num_threads(1)
sys.stdin.readline()
told = run(ImageClassificationConfig.model_validate_json({config.model_dump_json()!r}), Cache(Path({str(folder)!r}), 10**9))
print(len(built), told.reuse.depth, told.metrics[-1]["loss"])
"""
    return [sys.executable, "-c", code]


def test_processes_share_an_entry_and_two_at_once_build_it_once(configure: Configure, cache: Cache) -> None:
    assert cache.folder is not None
    config = configure(frozen_layers=4, epochs=1)
    command = script(config, cache.folder)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    both = [subprocess.Popen(command, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    reported = [process.communicate("go\n", timeout=600)[0].split() for process in both]
    third = run(config, Cache(cache.folder, 10**9))
    assert sum(int(built) for built, *_ in reported) == 2, "the training images' and the validation images', by one of them"
    assert reported[0][1:] == reported[1][1:] == ["4", str(third.metrics[-1]["loss"])] and len(entries(cache)) == 2


def test_a_damaged_entry_is_computed_again(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=4)
    first = run(config, cache)
    for file in entries(cache):
        content = bytearray(file.read_bytes())
        content[-100] ^= 0xFF
        file.write_bytes(content)
    damaged = [file.read_bytes() for file in entries(cache)]
    assert run(config, Cache(cache.folder, 10**9)).metrics == first.metrics
    assert [file.read_bytes() for file in entries(cache)] != damaged and len(damaged) == 2


def test_an_entry_that_is_evicted_stays_readable_for_whoever_uses_it(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    inputs = inputs_of(task, cache)
    drained(inputs.ready(0, None))
    before = dense(inputs.batch(task.training, 0)).clone()
    for file in entries(cache):
        file.unlink()
    assert drained(inputs.ready(0, None)) == 0 and torch.equal(dense(inputs.batch(task.training, 0)), before)


def test_who_waits_for_another_builder_gives_signs_and_takes_what_it_made(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    building, waiting = inputs_of(task, cache), inputs_of(task, Cache(cache.folder, 10**9))
    builder = building.ready(0, None)
    next(builder)
    waiter = waiting.ready(0, "a sign")
    assert [next(waiter) for _ in range(2)] == ["a sign"] * 2
    finish = threading.Thread(target=drained, args=(builder,))
    finish.start()
    drained(waiter)
    finish.join()
    assert len(entries(cache)) == 1 and torch.equal(dense(waiting.batch(task.training, 0)), dense(building.batch(task.training, 0)))


def test_what_a_builder_leaves_undone_the_one_who_waits_builds(configure: Configure, cache: Cache) -> None:
    task = task_of(configure(frozen_layers=4))
    builder, waiting = inputs_of(task, cache).ready(0, None), inputs_of(task, Cache(cache.folder, 10**9))
    next(builder)
    waiter = waiting.ready(0, None)
    next(waiter)
    builder.close()  # as when its run is cancelled
    assert entries(cache) == []
    drained(waiter)
    assert len(entries(cache)) == 1


def test_where_there_is_no_room_everything_is_computed(configure: Configure, cache: Cache) -> None:
    config = configure(frozen_layers=4)
    reported = run(config, Cache(cache.folder, 5_000))
    assert reported.reuse.depth == 0 and reported.reuse.place == "none" and entries(cache) == []
    assert same(reported, run(config, cache, share=False))


def test_room_that_another_takes_meanwhile_is_done_without(configure: Configure, cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    task = task_of(configure(frozen_layers=4))
    tight = Cache(cache.folder, 400_000)
    inputs = inputs_of(task, tight)
    other = inputs_of(task_of(configure(frozen_layers=1)), tight)  # 12 images of [16, 16, 16] float32: 197 kB
    holding = other.ready(None, None)
    next(holding)  # a draft is not evicted
    drained(inputs.ready(0, None))
    drained(inputs.ready(None, None))
    assert "there is no room" in caplog.text and len(entries(tight)) == 1, "the validation images' output still fits"
    wanted = task.model.forward_prefix(task.examples.take(task.training, None), 4)
    torch.testing.assert_close(inputs.batch(task.training, 0), wanted)
    holding.close()


def test_without_a_folder_outputs_stay_in_the_memory_of_the_process(configure: Configure, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config = configure(frozen_layers=4, seed=11)  # random initial values of its own
    first, second = run(config, Cache.none()), run(config, Cache.none())
    assert first.reuse.place == second.reuse.place == "memory" and first.metrics == second.metrics
    assert caplog.text.count("building") == 2, "of training and validation images, by the first run"


def test_the_memory_of_a_process_keeps_what_was_used_last() -> None:
    store = MemoryFeatureStore()
    size = store.budget // 3 // 8
    keys = [CacheKey("features", {"number": number}) for number in range(4)]
    for key in keys:
        draft = store.begin(key, (size,), torch.int64)
        assert draft is not None
        draft.tensor = torch.empty(1, dtype=torch.int64).expand(size)  # takes no memory, and counts as if
        draft.commit()
        store.find(keys[0])
    assert [store.holds(key) for key in keys][:2] == [True, False] and store.holds(keys[3])
    assert store.begin(keys[1], (store.budget,), torch.int64) is None
