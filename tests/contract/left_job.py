"""A step whose Beam job never ends by itself: a marker to touch, then Beam's options."""

import pathlib
import sys
import time

import apache_beam as beam

from components.steps.step import step
from transforms.beam import runners


def sleeps(marker):
    pathlib.Path(marker).touch()
    time.sleep(300)


def main():
    with step():
        runners.run(lambda p: p | beam.Create([sys.argv[1]]) | beam.Map(sleeps), sys.argv[2:])


if __name__ == "__main__":
    main()
