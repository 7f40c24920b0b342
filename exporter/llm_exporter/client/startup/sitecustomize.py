"""Python imports this first under `llm-exporter run`: it meters the program from its first import of an SDK.

`run` puts this directory first on PYTHONPATH, so that child Pythons of the program are metered too. Every
Python that the program starts runs this file, whatever its version and whether it calls an LLM or not. So the
file has the syntax of Python 2.7, and imports our package only once the program has imported an SDK. Until
then, nothing of ours is in the process but a finder in `sys.meta_path`.
"""

import os
import sys

if sys.version_info >= (3, 4):  # older ones have another kind of finder, and no SDK supports them
    from _thread import _local
else:
    _local = object

AWAITED = ("anthropic", "google.genai", "llm_exporter", "openai")
"""The SDKs, and our package, so that what the program asks of it comes after what `run` asks of it."""


class _Thread(_local):
    """What a thread is doing."""

    busy = False  # whether it is in `find_spec`, which other finders may call, or imports our package


class _Finder(object):
    """Leaves finding modules to the other finders, and meters the process once an awaited one has run."""

    def __init__(self):
        self._thread = _Thread()
        self._importing = False
        self._forked_too_early = False

    def start(self):
        """Await the modules, or meter the process now if one of them is imported already."""
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)
        sys.meta_path.insert(0, self)
        if any(sys.modules.get(name) is not None for name in AWAITED):
            self.meter()

    def find_spec(self, name, path=None, target=None):
        """Return what the other finders find for an awaited module."""
        if name not in AWAITED or self._thread.busy:
            return None
        self._thread.busy = True
        try:
            spec = self._found_by_others(name, path, target)
        finally:
            self._thread.busy = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec, self.meter)
        return spec

    def _found_by_others(self, name, path, target):
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find is not None and finder is not self else None
            if spec is not None:
                return spec
        return None

    def meter(self):
        """Meter the process. Never raises: this runs inside the program's import."""
        try:
            if "llm_exporter" not in sys.modules or self._forked_too_early:
                self._import_ours()
            import llm_exporter  # waits for another thread that imports it

            llm_exporter.instrument()
        except Exception as error:
            if self in sys.meta_path:
                _say("llm-exporter: {0} is not metered: {1}\n".format(sys.executable, error))
        # A new list: another thread that iterates over the old one must not skip the next finder.
        sys.meta_path = [finder for finder in sys.meta_path if finder is not self]

    def _import_ours(self):
        if self._forked_too_early:
            raise RuntimeError("it was forked while another thread imported llm_exporter")
        self._thread.busy = self._importing = True
        try:
            import llm_exporter  # noqa: F401
        finally:
            self._thread.busy = self._importing = False

    def _forked(self):
        # The import of a thread that this process does not have never ends: nobody may wait for it.
        self._forked_too_early = self._importing


class _Loader(object):
    """Takes the place of a module's loader until the module has run."""

    def __init__(self, spec, imported):
        self._spec = spec
        self._loader = spec.loader
        self._imported = imported

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def exec_module(self, module):
        """Run the module with its own loader, then call back."""
        self._spec.loader = self._loader
        if module.__loader__ is self:
            module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._imported()


def _say(message):
    try:
        sys.stderr.write(message)
    except Exception:  # it may be closed or None
        pass


def _start():
    """Run the `sitecustomize` that this one shadows, then await the SDKs."""
    here = os.path.realpath(os.path.dirname(__file__))
    sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
    ours = sys.modules.pop("sitecustomize")  # Python 2.7 would clear a module without references
    try:
        import sitecustomize  # noqa: F401  # without another one, an error that `site` ignores
    finally:
        if sys.version_info >= (3, 4):
            _Finder().start()
        del ours


_start()
