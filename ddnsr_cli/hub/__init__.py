"""Files of the Hugging Face Hub. `fetch` one, `list_files` of a repository; all trouble is a HubError of one line."""

from ddnsr_cli.hub.fetch import HubAccess, HubFile, Progress, fetch, list_files

__all__ = ["HubAccess", "HubFile", "Progress", "fetch", "list_files"]
