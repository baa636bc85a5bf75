"""Tables: rows of sensor values from files, and results into files."""

from streamrnn.table.opening import open_rows
from streamrnn.table.output import WholeFile, Writer, open_writer
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading
from streamrnn.table.rows import Rows

__all__ = ["Reading", "RowReader", "Rows", "WholeFile", "Writer", "open_rows", "open_writer"]
