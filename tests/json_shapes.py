"""holdfast-json(5), read as the tests hold the documents to it: which members each may have, at every place."""

import os
import re

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "holdfast-json.5.scd")


class Page:
    def __init__(self):
        with open(PAGE) as f:
            commands, shapes = re.findall(r"^```\n(.*?)^```$", f.read(), re.S | re.M)
        self.commands = {}
        for line in commands.splitlines():
            command, names = re.split(r"  +", line)
            self.commands[command.removeprefix("holdfast")] = names.split()
        self.shapes, self.parts = {}, {}
        for text in self.statements(shapes):
            definition = re.match(r"(\w+) +:= (.*)", text)
            if definition:
                current = definition[1]
                self.shapes[current] = self.read(definition[2])
            else:  # a member of the shape above it, on lines of its own
                name, text = text.split(":", 1)
                self.shapes[current][name] = self.read(text)

    @staticmethod
    def statements(text):
        """Each goes on until its braces are closed."""
        whole = ""
        for line in text.splitlines():
            whole = f"{whole} {line.strip()}".strip()
            if whole.count("{") == whole.count("}"):
                yield whole
                whole = ""

    def read(self, text):
        self.tokens = re.findall(r"[\w*]+|[{}\[\]:,]", text)
        got = self.value()
        assert not self.tokens, (text, self.tokens)
        return got

    def value(self):
        """A name of a shape, a dict of members, or a list of one of these."""
        token = self.tokens.pop(0)
        if token == "[":
            inner = self.value()
            assert self.tokens.pop(0) == "]"
            return [inner]
        if token != "{":
            return token
        members = {}
        while (name := self.tokens.pop(0)) != "}":
            members[name] = None
            if self.tokens[0] == ":":
                self.tokens.pop(0)
                members[name] = self.value()
            if self.tokens[0] == ",":
                self.tokens.pop(0)
        return members

    def unnamed(self, shape, value, place=""):
        """Places of members that the shape does not name."""
        if shape == "*":
            return []
        if isinstance(shape, str):
            shape = self.shapes[shape]
        if isinstance(shape, list) and isinstance(value, list):
            return [x for v in value for x in self.unnamed(shape[0], v, place + "[]")]
        if shape is None or "*" in shape or not isinstance(value, (dict, list)):
            # Without a shape a member is a plain value, or a list of them.
            nested = value if isinstance(value, list) else [value]
            return [place + "{}"] if shape is None and place and any(isinstance(v, dict) for v in nested) else []
        if not isinstance(value, dict) or not isinstance(shape, dict):
            return [place + "?"]
        return [x for k, v in value.items()
                for x in ([f"{place}.{k}"] if k not in shape else self.unnamed(shape[k], v, f"{place}.{k}"))]

    def check(self, command, document):
        """The members that no shape of this command names, by the nearest one; [] = all are named."""
        if "error" in document:
            return self.unnamed("failure", document)
        found = [self.unnamed(s, document) for s in self.commands[command]]
        return min(found, key=len)
