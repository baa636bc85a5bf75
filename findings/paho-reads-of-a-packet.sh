#!/usr/bin/env bash
# paho-mqtt 2.2.0 asks the kernel for the parts of each packet one by one: its first byte, its length byte by byte, and
# the rest. A PUBLISH of a few bytes takes three calls of recv, though thousands of packets wait in the kernel already,
# and these are a good part of what a message costs a subscriber. There is no setting for it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install -q paho-mqtt==2.2.0

cat > try.py <<'END'
import socket
import sys
import threading

import paho.mqtt
import paho.mqtt.client as mqtt

SENT = 1000
door = socket.create_server(("127.0.0.1", 0))


def broker():
    """Lets a client in and publishes to it: as much of MQTT 3.1.1 as that takes."""
    peer, _ = door.accept()
    peer.recv(1000)
    publish = bytes([0x30, 5, 0, 1]) + b"a" + b"42"
    peer.sendall(bytes([0x20, 2, 0, 0]) + SENT * publish)
    peer.recv(1000)
    peer.close()


class Counting(mqtt.Client):
    calls = 0

    def _sock_recv(self, size):
        self.calls += 1
        return super()._sock_recv(size)


threading.Thread(target=broker, daemon=True).start()
client, taken = Counting(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311), []
client.on_message = lambda client, data, message: taken.append(message.payload)
client.connect("127.0.0.1", door.getsockname()[1])
while len(taken) < SENT:
    client.loop(0.1)
print("paho-mqtt", paho.mqtt.__version__)
print(f"{SENT} messages of {len(taken[0])} bytes took {client.calls} calls of recv")
client.disconnect()
sys.exit(0 if 3 * SENT <= client.calls <= 3 * SENT + 10 else "it is no longer so")
END

venv/bin/python try.py
echo "as it was: three calls of recv a packet"
