"""What is claimed about speed, as comparisons: `make bench` runs them all.

Each compares within one run, in turns, so that a machine that is slow or busy is so for both. A further one
is a module with a `rows` function, and its name in `__main__.py`.
"""
