"""Beam's file system for hdfs://, in memory: Beam finds it by its scheme among the subclasses."""

import io

from apache_beam.io import filesystem

FILES: dict[str, bytes] = {}
HOSTS: list[str] = []
"""What it was told in the options, each time that one was made."""


class Hadoop(filesystem.FileSystem):
    def __init__(self, pipeline_options):
        super().__init__(pipeline_options)
        HOSTS.append(pipeline_options.get_all_options()["hdfs_host"])

    @classmethod
    def scheme(cls):
        return "hdfs"

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for path, data in FILES.items():
            if path.startswith(dir_or_prefix):
                yield filesystem.FileMetadata(path, len(data), 0.0)

    def open(self, path, mime_type="", compression_type=filesystem.CompressionTypes.AUTO):
        assert compression_type == filesystem.CompressionTypes.UNCOMPRESSED
        return io.BytesIO(FILES[path])

    def _refused(self, *given, **options):
        raise AssertionError("nothing is done there but reading")

    join = split = mkdirs = create = copy = rename = exists = size = last_updated = _refused
    metadata = delete = checksum = _refused
