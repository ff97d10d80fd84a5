#!/usr/bin/env bash
# proxy.sh <directory of the programs>: a client and an upstream in Python with the proxy between them. Large transfers to who reads slowly,
# in both directions, arrive whole while the proxy's memory stays small; connections are half-closed both ways, reset, refused; two hundred
# at once; and Ctrl-C. Exits with 77 (skipped) when there is no Python.
set -euo pipefail

command -v python3 >/dev/null || { echo "skipped: python3 is not installed"; exit 77; }
exec python3 - "$1/proxy" <<'END'
import hashlib, os, re, signal, socket, struct, subprocess, sys, threading, time

LARGE = 96 * 1024 * 1024
BLOCK = os.urandom(1 << 20)
MOST_KIB = 2 * 1024  # beyond what it takes when idle
told = {}  # what the upstream found out, by name


def read_line(connection):
    line = b""
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return line.decode()
        line += byte
    return line.decode()


def drain(connection):
    digest, size = hashlib.sha256(), 0
    while data := connection.recv(1 << 18):
        digest.update(data)
        size += len(data)
    return size, digest.hexdigest()


def give(connection, size):
    digest = hashlib.sha256()
    while size > 0:
        piece = BLOCK[:min(size, len(BLOCK))]
        connection.sendall(piece)
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


# The upstream: what it does stands in the first line.
def serve(connection):
    with connection:
        words = read_line(connection).split()
        command = words[0] if words else ""
        if command == "echo":
            while data := connection.recv(65536):
                connection.sendall(data)
        elif command == "give":  # and ends its half; then hears the rest
            told[words[2]] = give(connection, int(words[1]))
            connection.shutdown(socket.SHUT_WR)
            told[words[2] + " late"] = drain(connection)[0]
            done.release()
        elif command == "slowly":
            time.sleep(1)
            connection.sendall(repr(drain(connection)).encode())
        elif command == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif command == "hold":
            began.release()
            told["held"] = drain(connection)
            done.release()


def accept(listener):
    while True:
        threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()


def start(upstream_port):
    proxy = subprocess.Popen([sys.argv[1], "127.0.0.1", str(upstream_port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return proxy, int(proxy.stdout.readline())


def dial(command):
    connection = socket.create_connection(("127.0.0.1", port), 60)
    connection.sendall(command.encode() + b"\n")
    return connection


def resident():
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{proxy.pid}/status").read())[1])


def check(name, condition):
    print("ok  " if condition else "FAIL", name, flush=True)
    if not condition:
        proxy.kill()
        print(proxy.communicate())
        sys.exit(1)


began, done = threading.Semaphore(0), threading.Semaphore(0)
listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
threading.Thread(target=accept, args=(listener,), daemon=True).start()
proxy, port = start(listener.getsockname()[1])

with dial("echo") as connection:
    connection.sendall(b"hello")
    check("something comes back", connection.recv(5) == b"hello")
    idle = resident()
    connection.sendall(b"goodbye")
    connection.shutdown(socket.SHUT_WR)
    check("the rest, and the end, after the client's end", connection.recv(20) == b"goodbye" and connection.recv(1) == b"")

with dial(f"give {LARGE} down") as connection:
    time.sleep(1)  # nobody reads: what the upstream sends has to wait there
    most = resident()
    size, digest = drain(connection)
    check(f"{LARGE >> 20} MiB to a slow client arrive whole", size == LARGE)
    connection.sendall(b"late" * 1000)  # the upstream has ended its half, and still listens
    connection.shutdown(socket.SHUT_WR)
    done.acquire()
    check("by their hash", digest == told["down"])
    check("the client may go on after the upstream's end", told["down late"] == 4000)
    check(f"meanwhile the proxy grew by {most - idle} KiB", most - idle < MOST_KIB)

with dial("slowly") as connection:
    samples, sending = [], True

    def sample():
        while sending:
            samples.append(resident())
            time.sleep(0.02)

    sampler = threading.Thread(target=sample)
    sampler.start()
    digest = give(connection, LARGE)
    sending = False
    sampler.join()
    connection.shutdown(socket.SHUT_WR)
    answer = b""
    while data := connection.recv(1000):
        answer += data
    check(f"{LARGE >> 20} MiB to a slow upstream arrive whole", answer.decode() == repr((LARGE, digest)))
    check(f"meanwhile the proxy grew by {max(samples) - idle} KiB", max(samples) - idle < MOST_KIB)

with dial("reset") as connection:
    try:
        ended = connection.recv(1) == b""
    except ConnectionResetError:
        ended = True
    check("a reset upstream ends the client", ended)


for _ in range(50):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def converse(number):
    mine = BLOCK[number * 100:number * 100 + 50000]
    with dial("echo") as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(mine), connection.shutdown(socket.SHUT_WR)))
        sender.start()
        equal[number] = drain(connection)[1] == hashlib.sha256(mine).hexdigest()
        sender.join()


equal = [False] * 200
threads = [threading.Thread(target=converse, args=(number,)) for number in range(200)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
check("two hundred at once", all(equal))

# Ctrl-C while a connection is open: both of its ends hear of it.
connection = dial("hold")
began.acquire()
proxy.send_signal(signal.SIGINT)
check("Ctrl-C: the client hears the end", connection.recv(1) == b"")
done.acquire()
output, errors = proxy.communicate(timeout=60)
print(output, end="")
check("and the upstream", told["held"][0] == 0)
check("no error, status 0", proxy.returncode == 0 and "ERROR" not in errors.replace("==", ""))
counts = re.fullmatch(r"(\d+) connections, 0 not passed on, (\d+) bytes there, (\d+) bytes back\n", output)
check("counted", counts and int(counts[1]) >= 205 and int(counts[2]) > LARGE + 200 * 50000 and int(counts[3]) > LARGE + 200 * 50000)

# Where no upstream is, and a client that goes at once.
listener = socket.socket()
listener.bind(("127.0.0.1", 0))  # and does not listen
proxy, port = start(listener.getsockname()[1])
for _ in range(3):
    with dial("echo") as connection:
        try:
            ended = connection.recv(1) == b""
        except ConnectionResetError:
            ended = True
        check("refused: the client hears the end", ended)
proxy.send_signal(signal.SIGINT)
output, errors = proxy.communicate(timeout=60)
print(errors, output, sep="", end="")
check("and is told", proxy.returncode == 0 and "3 not passed on" in output and errors.count("connection refused") == 3)

# Ctrl-C while connecting: nobody takes connections from the upstream's queue, which is full.
listener.close()
listener = socket.create_server(("127.0.0.1", 0), backlog=0)
queued = []
for _ in range(3):
    queued.append(socket.socket())
    queued[-1].setblocking(False)
    queued[-1].connect_ex(listener.getsockname())
proxy, port = start(listener.getsockname()[1])
with dial("echo") as connection, dial("echo") as another:
    time.sleep(0.2)
    began_to_end = time.monotonic()
    proxy.send_signal(signal.SIGINT)
    output, errors = proxy.communicate(timeout=60)
    print(output, end="")
    check("Ctrl-C gives connecting up", proxy.returncode == 0 and " connections, 0 not passed on" in output)
    check("at once", time.monotonic() - began_to_end < 3)
END
