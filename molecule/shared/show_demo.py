"""Print what the demo offers: `python show_demo.py build/demo.json`."""

import json
import sys
from pathlib import Path


def main(path: str) -> None:
    """Print address, accounts and the ways further."""
    demo = json.loads(Path(path).read_text(encoding="utf-8"))
    print(f"\nThe demo runs at  {demo['url']}\n")
    print("The browser warns of the certificate: the demo signs its own. Log in as")
    for account in demo["accounts"]:
        print(f"    {account['user']:<12} {account['password']:<14} {account['role']}")
    print(f"\nInto the machine: ssh -F {demo['ssh_config']} hub")
    print("Remove the demo:  make demo-stop\n")


if __name__ == "__main__":
    main(sys.argv[1])
