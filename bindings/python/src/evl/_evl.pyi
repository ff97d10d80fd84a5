from typing import Any

# Private: what the package's own modules use.
def __getattr__(name: str) -> Any: ...
