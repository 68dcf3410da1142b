#!/usr/bin/env python3
"""Scores what `bench pesq` played: PESQ of ours, of silence in the gaps, and of spandsp's PLC.

Needs `pip install numpy pesq` and libspandsp (Debian: libspandsp2). Reads a list of jobs (JSON),
each with raw 16-bit files at 8 kHz, and prints a list of scores.
"""

import ctypes
import ctypes.util
import json
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy
from pesq import pesq

RATE = 8000
FRAME = 160


def samples(path):
    return numpy.fromfile(path, dtype="<i2")


def with_silence(received, lost):
    played = received.copy()
    for number, missing in enumerate(lost):
        if missing:
            played[number * FRAME : (number + 1) * FRAME] = 0
    return played


def with_spandsp(received, lost):
    library = ctypes.CDLL(ctypes.util.find_library("spandsp") or "libspandsp.so.2")
    library.plc_init.restype = ctypes.c_void_p
    state = ctypes.c_void_p(library.plc_init(None))
    played = []
    for number, missing in enumerate(lost):
        frame = (ctypes.c_int16 * FRAME)(*received[number * FRAME : (number + 1) * FRAME])
        if missing:
            library.plc_fillin(state, frame, FRAME)
        else:
            library.plc_rx(state, frame, FRAME)
        played.extend(frame)
    library.plc_free(state)
    return numpy.array(played, dtype="<i2")


def score(job):
    reference = samples(job["reference"])
    received, lost = samples(job["received"]), job["lost"]
    heard = {
        "ours": samples(job["ours"]),
        "silence": with_silence(received, lost),
        "spandsp": with_spandsp(received, lost),
    }
    return {name: pesq(RATE, reference, sound, "nb") for name, sound in heard.items()}


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        jobs = json.load(file)
    with ProcessPoolExecutor() as pool:
        json.dump(list(pool.map(score, jobs, chunksize=4)), sys.stdout)


main()
