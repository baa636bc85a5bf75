#!/usr/bin/env bash
# msgspec 0.22.0: Decoder.decode_lines, "decode a list of items from newline-delimited JSON", does not ask for lines.
# Values side by side on one line are as many items, and one value over several lines is one: nothing in the result
# tells three messages from one that holds three values, so messages must not be joined to be decoded at once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q msgspec==0.22.0

cat > try.py <<'END'
import sys

import msgspec

decoder = msgspec.json.Decoder()
found = [decoder.decode_lines(text) for text in (b"1\n2\n3\n", b"1 2 3\n", b'{"a": 1}{"a": 2}\n', b'{"a":\n1}\n')]
print("msgspec", msgspec.__version__)
for items in found:
    print(items)
sys.exit(0 if found == [[1, 2, 3], [1, 2, 3], [{"a": 1}, {"a": 2}], [{"a": 1}]] else "it is no longer so")
END

venv/bin/python try.py
echo "as it was: a line may hold several values, and a value several lines"
