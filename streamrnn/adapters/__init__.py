"""Messages of other publishers, read: a format a file, all of them in one table (``table.py``)."""
