"""Runs that are killed, or asked to end, and go on: the uninterrupted one, bit for bit.

What is lost is time: the iterations since the last checkpoint are done again.
"""

import random
import re
import signal
import time
from itertools import chain

import killed_runs
import pytest
from killed_runs import EPOCH, IMAGES, Killed, same, write_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed")


@pytest.fixture(scope="module")
def whole(folder):
    """The uninterrupted run of a config, with options of the tool."""

    def run(name, *options):
        config = write_config(getattr(killed_runs, name), folder)
        training = Killed(config, f"{name}-whole")
        if not training.log.exists():
            training.start(*options)
            assert training.wait() == 0, training.log.read_text()[-3000:]
            assert training.iterations() == len(training.drawn())
        return training

    return run


def assert_nothing_lost(training, whole):
    found, expected = training.saved(), whole.saved()
    assert found.keys() == expected.keys()
    assert [key for key in found if not same(found[key], expected[key])] == []
    assert training.files() == whole.files()
    drawn = training.drawn()
    assert drawn == whole.drawn()
    for start in range(0, len(drawn), EPOCH):
        images = [drawn[iteration] for iteration in range(start, start + EPOCH)]
        assert len(set(chain(*images))) == IMAGES == sum(map(len, images))


def workers(number):
    keep = "train_dataloader.persistent_workers"
    return f"train_dataloader.num_workers={number}", f"{keep}={number > 0}"


def test_killed_and_asked_to_end(folder, whole):
    """In short: as it saved, as it trained, and by a signal to it and its workers."""
    length = "train_cfg.max_iters=12"
    whole = whole("mask2former", length)
    training = Killed(whole.config, "short")
    training.start(length, *workers(2))
    assert training.kill_while_saving()
    assert training.unfinished()
    training.start(length)
    training.wait_for(5)
    assert training.kill()
    training.start(length, *workers(2))
    training.wait_for(3)
    training.signal(signal.SIGTERM)
    assert training.wait() == 75
    begun = training.iterations()
    last = training.log.read_text().splitlines()[-1]
    stopped = re.fullmatch(
        r"asked to end \(SIGTERM\) after iteration (\d+); saved as .*/\w+\.pth, "
        "continue with --resume",
        last,
    )
    training.start(length)
    assert training.wait() == 0
    # Of what a signal interrupts, nothing is done twice.
    assert training.iterations() - begun == 12 - int(stopped[1])
    assert_nothing_lost(training, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("name", ["dino", "mask2former", "stitched"])
def test_killed_at_random_points(whole, name, number):
    whole = whole(name)
    training = Killed(whole.config, f"{name}-{number}", forked=number == 0)
    generator = random.Random(f"{name}-{number}")
    kills, while_saving = 0, 0
    for least in (1, 0, EPOCH + 1, 0):
        training.start(*workers(number))
        if least:
            training.wait_for(least + generator.randrange(4))
            time.sleep(generator.uniform(0, 0.3))
            kills += training.kill()
        else:
            kills += training.kill_while_saving()
            while_saving += bool(training.unfinished())
    training.start(*workers(2 - number))
    assert training.wait() == 0
    assert kills == 4 and while_saving == 2
    again = training.iterations() - len(training.drawn())
    print(
        f"{name}, {number} workers: {kills} kills, {while_saving} while saving, "
        f"{again} iterations done again"
    )
    assert_nothing_lost(training, whole)
