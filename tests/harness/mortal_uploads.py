"""Uploads files over plain passive FTP, each in a process of its own that lives or dies as its plan says.

mortal_uploads.py HOST PORT USER PASSWORD; on standard input a plan a line, in JSON; on standard output what each process
did, told right after it was done.
"""

import json, os, signal, socket, struct, sys, time

host, port, user, password = sys.argv[1:]
PATIENCE = 60
PIECE = 10_000


def tell(what):
    os.write(1, f"{what}\n".encode())


def content(number, size):
    return b"".join(b"%08d %08d\n" % (number, line) for line in range(size // 18 + 1))[:size]


class Client:
    def __init__(self, plan, reached):
        self.plan, self.reached, self.noops = plan, reached, 0
        self.control = socket.create_connection((host, int(port)), PATIENCE)
        if plan["aborts"]:
            self.control.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.replies = self.control.makefile("rb")
        tell(f"port {self.control.getsockname()[1]}")
        self.expect(b"220")
        self.command(f"USER {user}", b"331")
        self.command(f"PASS {password}", b"230")
        self.command("TYPE I", b"200")

    def send(self, line):
        self.control.sendall(f"{line}\r\n".encode())

    def expect(self, code):
        while True:
            line = self.replies.readline()
            if not line:
                raise EOFError(f"the server closed the connection, and {code} was to come")
            if line[3:4] != b" ":
                continue
            if line.startswith(code):
                return line
            if not (self.noops and line.startswith(b"200")):
                raise ValueError(f"{line}, and not {code}")
            self.noops -= 1

    def command(self, line, code):
        self.send(line)
        return self.expect(code)

    def stage(self, name):
        """It has come so far: it may die here by its own hand, or be killed from outside some time after."""
        tell(name)
        if self.plan["dies"] == name:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.plan["killed"] == name:
            os.write(self.reached, b".")

    def upload(self):
        plan = self.plan
        numbers = self.command("PASV", b"227").split(b"(")[1].split(b")")[0].split(b",")
        data = socket.create_connection((host, int(numbers[4]) * 256 + int(numbers[5])), PATIENCE)
        tell(f"port {data.getsockname()[1]}")
        self.command(f"STOR {plan['name']}", b"150")
        if plan["noop"]:
            # As clients do that keep the connection alive. Its reply may be unread when the client dies.
            self.send("NOOP")
            self.noops += 1
        self.stage("sending")
        part = content(plan["number"], plan["size"])[: plan["sends"]]
        for at in range(0, len(part), PIECE):
            data.sendall(part[at : at + PIECE])
        self.stage("sent")
        data.close()
        self.stage("closed")
        self.expect(b"226")
        self.stage("read")
        self.send(plan["goes_on"])
        self.stage("went on")
        if plan["goes_on"] == "PWD":
            self.expect(b"257")
            self.send("QUIT")
        self.expect(b"221")
        self.stage("ended")


def run(plan, reached):
    try:
        Client(plan, reached).upload()
    except Exception as error:
        tell(f"failed {error!r}")
        os._exit(1)
    os._exit(0)


for line in sys.stdin:
    plan = json.loads(line)
    hears, reached = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hears)
        run(plan, reached)
    os.close(reached)
    if plan["killed"] and os.read(hears, 1):
        # The moment of the kill is what is random here; nothing is waited for.
        time.sleep(plan["after_ms"] / 1000)
        os.kill(child, signal.SIGKILL)
    os.close(hears)
    _, status = os.waitpid(child, 0)
    tell(f"over {os.waitstatus_to_exitcode(status)}")
