"""Tables: rows of sensor values from files, and results into files."""

from streamrnn.table.columns import Columns
from streamrnn.table.output import WholeFile, Writer, open_writer
from streamrnn.table.rows import RowReader, Rows, open_rows

__all__ = ["Columns", "RowReader", "Rows", "WholeFile", "Writer", "open_rows", "open_writer"]
