"""Tables: rows of sensor values from files, and results into files."""

from streamrnn.table.input_formats import open_rows
from streamrnn.table.output import ResultWriter, WholeFile, open_writer
from streamrnn.table.reader import RowReader
from streamrnn.table.reading import Reading
from streamrnn.table.rows import Rows

__all__ = ["Reading", "ResultWriter", "RowReader", "Rows", "WholeFile", "open_rows", "open_writer"]
