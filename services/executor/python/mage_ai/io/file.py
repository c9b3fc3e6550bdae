"""Frames in local files, and from URLs."""
from __future__ import annotations

import os
from typing import Any, List, Optional, Union

from mage_ai.io.base import BaseFile, FileFormat


class FileIO(BaseFile):
    """Reads and writes frames; the format follows the file's name unless it is given."""

    def load(self, filepath: Union[str, "os.PathLike[str]", None] = None,
             format: Optional[Union[FileFormat, str]] = None, limit: Optional[int] = None,
             file_directories: Optional[List[str]] = None, **kwargs: Any) -> Any:
        """The frame of a file or a URL, or of all files below some folders; further options are pandas' own."""
        if file_directories:
            import pandas

            paths = [os.path.join(place, name) for folder in file_directories for place, _, names in os.walk(folder)
                     for name in sorted(names)]
            frames = [self._read(path, self._format(path, format), limit, **kwargs) for path in paths]
            return pandas.concat(frames, axis=0, ignore_index=True)
        if filepath is None:
            raise ValueError("load needs a filepath or file_directories")
        return self._read(filepath, self._format(filepath, format), limit, **kwargs)

    def export(self, df: Any, filepath: Union[str, "os.PathLike[str]"],
               format: Optional[Union[FileFormat, str]] = None, **kwargs: Any) -> None:
        """Writes a frame; further options are pandas' own."""
        import pandas

        frame = pandas.DataFrame(df) if isinstance(df, (dict, list)) else df
        folder = os.path.dirname(os.fspath(filepath))
        if folder:
            os.makedirs(folder, exist_ok=True)
        self._write(frame, filepath, self._format(filepath, format), **kwargs)

    def exists(self, filepath: Union[str, "os.PathLike[str]"], *_args: Any, **_options: Any) -> bool:
        """Whether there is such a file."""
        return os.path.exists(filepath)
