"""``dlnotes serve`` in a checkout."""

from dlnotes.commands import run

if __name__ == "__main__":
    run("serve")
