"""Its place makes ``tests/`` importable, for helpers such as ``goldens``."""
