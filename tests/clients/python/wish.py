"""How the tests speak with a client: what to open is in its arguments, it says what it did on
its output, and the end of its input asks it to close what it opened."""

import sys

ADDR, PROTOCOL, PORT = sys.argv[1], sys.argv[2].upper(), int(sys.argv[3])
REST = sys.argv[4:]


def say(*words):
    print(*words, flush=True)


def until_asked_to_close():
    sys.stdin.read()
