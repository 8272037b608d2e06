"""Notes the calls of a method, also those in forked processes."""

import json


class Notes:
    """What was noted so far; a call returns it as a list."""

    def __init__(self, path):
        self.path = path
        self.clear()

    def __call__(self):
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def note(self, what):
        with open(self.path, "a") as out:  # one write: whole among other processes'
            out.write(json.dumps(what) + "\n")

    def clear(self):
        self.path.write_text("")


def note_calls(monkeypatch, owner, name, describe, folder):
    """Note `describe(*args)` of every call of `owner.name`, in a file in a folder."""
    notes, plain = Notes(folder / f"calls-of-{name}"), getattr(owner, name)

    def watch(*args):
        notes.note(describe(*args))
        return plain(*args)

    monkeypatch.setattr(owner, name, watch)
    return notes
