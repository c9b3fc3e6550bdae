"""Shared by several blocks, to show that a project's own modules can be imported."""


def headline(text):
    print(f"\n{text}\n{'-' * len(text)}")
