#!/usr/bin/env bash
# SQLite 3.51.1 (pysqlite3-binary 0.5.4.post2) and 3.54.1 (apsw 3.54.1.0): `PRAGMA incremental_vacuum` gives back the free
# pages of a file one at each step of its statement, a row without columns for each. Where only execute() is called,
# as for any other PRAGMA that sets something, one page goes and no error is raised; who fetches the rows that are not
# there gives back all of them, and so does executescript(). (The sqlite3 of CPython 3.11.7 ends at a row without
# columns, so that even fetchall() gives back one page; that of 3.10.13, 3.12.1 and 3.13.0 is as below.)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pysqlite3-binary==0.5.4.post2 apsw==3.54.1.0

cat > try.py <<'END'
import apsw
import pysqlite3

PAGES = 500


def freed(connection, vacuum):
    """How many of PAGES free pages are given back."""
    connection.execute("PRAGMA auto_vacuum = incremental")
    connection.execute("CREATE TABLE t (x)")
    connection.executemany("INSERT INTO t VALUES (?)", [(bytes(4000),)] * PAGES)
    connection.execute("DELETE FROM t")

    def free():
        return connection.execute("PRAGMA freelist_count").fetchone()[0]

    before = free()
    assert before == PAGES, before
    vacuum(connection)
    return before - free()


PRAGMA = "PRAGMA incremental_vacuum"
ways = {
    "execute": lambda connection: connection.execute(PRAGMA),
    "execute, 100": lambda connection: connection.execute(f"{PRAGMA}(100)"),
    "fetchall": lambda connection: connection.execute(PRAGMA).fetchall(),
    "executescript": lambda connection: connection.executescript(PRAGMA),
}
expected = {"execute": 1, "execute, 100": 1, "fetchall": PAGES, "executescript": PAGES}
found = {}
for number, (way, vacuum) in enumerate(ways.items()):
    connection = pysqlite3.connect(f"{number}.db", isolation_level=None)
    found[way] = freed(connection, vacuum)
    connection.close()
print("pysqlite3", pysqlite3.sqlite_version, found)
assert found == expected
del ways["executescript"], expected["executescript"]  # apsw has none: its execute takes several statements
found = {}
for number, (way, vacuum) in enumerate(ways.items()):
    connection = apsw.Connection(f"{10 + number}.db")
    found[way] = freed(connection, vacuum)
    connection.close()
print("apsw", apsw.sqlite_lib_version(), found)
assert found == expected
END
venv/bin/python try.py
