"""A call in a process of its own: a model may take down whatever runs it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


class Crashed(Exception):
    """The process ended before the call did."""


def run_apart(function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Answer:
    """What a function answers, computed in a fresh interpreter. Function, arguments and answer must be picklable.

    Raises:
        Crashed: the process ended without an answer.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(function, *args, **kwargs).result()
        except BrokenProcessPool as error:
            raise Crashed(f"the process that ran {function.__name__} died") from error
