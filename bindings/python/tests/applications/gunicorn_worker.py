"""The worker that bindings/python/README.md tells users of gunicorn to write."""

from uvicorn_worker import UvicornWorker


class EvlWorker(UvicornWorker):
    CONFIG_KWARGS = {"loop": "evl:new_event_loop", "http": "auto"}
