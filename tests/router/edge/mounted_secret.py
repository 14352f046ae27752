"""A Secret as the kubelet mounts it: files are links into a folder that is swapped as a whole."""

import shutil
from collections.abc import Mapping
from pathlib import Path


class MountedSecret:
    """The mount. `put` is what the kubelet does when the Secret has changed."""

    def __init__(self, folder: Path, keys: Mapping[str, bytes]) -> None:
        self.folder = folder
        self._version = 0
        folder.mkdir()
        self.put(keys)

    def put(self, keys: Mapping[str, bytes]) -> None:
        """Let the Secret hold these keys and no others."""
        self._version += 1
        version = self.folder / f"..2026_01_01_00_00_00.{self._version}"
        version.mkdir()
        for name, value in keys.items():
            (version / name).write_bytes(value)
        data, draft = self.folder / "..data", self.folder / "..data_tmp"
        before = data.resolve() if data.exists() else None
        draft.symlink_to(version.name)
        draft.rename(data)
        for name in keys:
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(Path("..data") / name)
        for link in self.folder.iterdir():
            if not link.name.startswith("..") and link.name not in keys:
                link.unlink()
        if before is not None:
            shutil.rmtree(before)
