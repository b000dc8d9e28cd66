"""Records of tested models, and the table made of them."""

from .record import Record
from .store import load_records, save_record
from .table import markdown, terminal

__all__ = ["Record", "load_records", "markdown", "save_record", "terminal"]
