"""A program with a controlling terminal of its own, and somebody who types."""

import os
import select

from harness.process import Failure, deadline


class Terminal:
    """Start `words`; expect() waits for a text on the terminal, type() answers. Standard output is the terminal too,
    unless it is a descriptor given as `stdout`; standard input is then empty."""

    def __init__(self, t, words, env=None, stdout=None):
        words = [str(word) for word in words]
        self.said, self.seen = b"", 0
        self.pid, self.descriptor = os.forkpty()
        if self.pid == 0:
            if stdout is not None:
                os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
                os.dup2(stdout, 1)
            os.execve(words[0], words, {**os.environ, "XDG_STATE_HOME": str(t.state()), **(env or {})})

    def read(self):
        """False at the end."""
        if not select.select([self.descriptor], [], [], deadline())[0]:
            raise Failure(f"nothing more comes after: {self.text()}")
        try:
            part = os.read(self.descriptor, 4096)
        except OSError:
            part = b""
        self.said += part
        return part != b""

    def expect(self, text):
        """Wait until the text appears after what was expected before."""
        while (at := self.said.find(text.encode(), self.seen)) < 0:
            if not self.read():
                raise Failure(f"it ended without \"{text}\": {self.text()}")
        self.seen = at + len(text)

    def type(self, text):
        os.write(self.descriptor, text.encode())

    def text(self):
        return self.said.decode(errors="replace")

    def end(self):
        """Wait for the end; the exit status."""
        while self.read():
            pass
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
