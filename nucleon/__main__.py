"""`python -m nucleon` is the `nucleon` command."""

from nucleon.cli import main

if __name__ == "__main__":
    main()
