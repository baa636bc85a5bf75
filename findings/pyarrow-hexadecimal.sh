#!/usr/bin/env bash
# pyarrow 26.0.1 takes 0x1F in a column of a CSV file for the whole number 31, so that ids and raw words of
# devices become numbers: its type inference says int64, and a cast from text to int64 does the same. One cell
# with a fraction turns the column back into text, hexadecimal cells included; a cast to float64 refuses them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q pyarrow==26.0.1

cat > expected <<'END'
two ids: int64 [16, 31]
one of them without 0x: int64 [10, 31]
beside a fraction: string ['0x10', '1.5']
cast to int64: [31]
cast to float64: refused
END

venv/bin/python > seen <<'END'
import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

for what, cells in (
    ("two ids", "0x10\n0x1F"),
    ("one of them without 0x", "010\n0x1F"),
    ("beside a fraction", "0x10\n1.5"),
):
    column = pyarrow.csv.read_csv(io.BytesIO(f"id\n{cells}\n".encode()))["id"]
    print(f"{what}: {column.type} {column.to_pylist()}")
print("cast to int64:", pc.cast(pa.array(["0x1F"]), pa.int64()).to_pylist())
try:
    print("cast to float64:", pc.cast(pa.array(["0x1F"]), pa.float64()).to_pylist())
except pa.ArrowInvalid:
    print("cast to float64: refused")
END

diff expected seen
echo "as it was: hexadecimal text is a column of int64"
