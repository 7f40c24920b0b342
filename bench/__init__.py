"""The benchmarks behind our performance claims: `make bench` runs them all.

Each benchmark alternates between the variants in one run: a slow or busy machine affects them equally.
To add one, write a module with a `tables` function and add its name to `__main__.py`.
"""
